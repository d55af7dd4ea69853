/** The questions about the instructions: one page, one choice a question; the server says what it comes to. */

import { button, element, prose } from "./dom";
import type { Shell } from "./shell";
import type { QuizQuestion } from "./wire";
import { words } from "./words";

/** What a person said: an answer for each question, and how long the page was looked at. */
export interface Said {
  answers: string[];
  viewed_ms: number;
}

function choice(question: QuizQuestion, number: number): HTMLFieldSetElement {
  const options = question.options.map((option) => {
    const input = element("input", { type: "radio", name: `question-${number}`, value: option });
    return element("label", { class: "answer-row" }, input, element("span", {}, option));
  });
  return element("fieldset", { class: "question" }, element("legend", {}, `${number + 1}. ${question.question}`), ...options);
}

function chosen(question: HTMLFieldSetElement): string | null {
  return question.querySelector<HTMLInputElement>("input:checked")?.value ?? null;
}

/** Show the questions and resolve with a whole set of answers; nothing is sent before every question has one. */
export function askQuestions(shell: Shell, questions: QuizQuestion[]): Promise<Said> {
  const since = performance.now();
  return new Promise((resolve) => {
    const fields = questions.map(choice);
    const fault = element("p", { class: "fault", role: "alert", hidden: true }, words.quiz.unanswered);
    const send = button(words.quiz.send, "primary", () => {
      const answers = fields.map(chosen);
      const open = answers.indexOf(null);
      fault.hidden = open < 0;
      if (open >= 0) return fields[open]!.querySelector("input")?.focus();
      send.disabled = true;
      send.textContent = words.quiz.checking;
      for (const field of fields) field.disabled = true;
      resolve({ answers: answers as string[], viewed_ms: performance.now() - since });
    });
    if (shell.simulated) for (const field of fields) guess(field);
    const heading = element("h1", {}, words.quiz.title);
    shell.show("quiz", heading, prose(words.quiz.body), ...fields, fault, element("div", { class: "actions" }, send));
  });
}

/** A simulated person has not read the instructions. */
function guess(field: HTMLFieldSetElement): void {
  const inputs = field.querySelectorAll("input");
  inputs[Math.floor(Math.random() * inputs.length)]!.checked = true;
}
