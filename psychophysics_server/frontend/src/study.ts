/** Takes a person through the server's timeline, from wherever they stand. */

import { initJsPsych } from "jspsych";

import { openAlbum } from "./album";
import { button, element, prose } from "./dom";
import type { Simulation } from "./entry";
import type { Outbox } from "./outbox";
import { OwnScores } from "./own-score";
import { introduction, position } from "./phrases";
import { type Fault, type Pictures, picturesOf } from "./pictures";
import { askQuestions } from "./quiz";
import type { Shell } from "./shell";
import { trialType } from "./trials";
import type { OwnScore, PracticeState, QuizQuestion, QuizState, Recognition, SessionState, Step, Trial, Verdict } from "./wire";
import { plural, words } from "./words";

const AHEAD = 4;
const LONG_GAP_S = 1800;

/** What the study asks of the world around it. */
export interface Surroundings {
  shell: Shell;
  outbox: Outbox;
  pictures: Pictures;
  /** What the server has said of the questions, of practice and of answers so far. */
  told: { quiz: QuizState; practice: PracticeState | null; verdicts: Map<number, Verdict> };
  simulation: Simulation;
  /** Ask the server's network what it recognises (`reveal`). */
  ask: (trialId: string, boxes: [number, number][]) => Promise<Recognition>;
  /** Ask the server what a trial tells this person of their own answers. */
  score: (trialId: string) => Promise<OwnScore>;
  decline: () => Promise<void>;
  complete: () => Promise<void>;
  /** Record the screen in front of the person, once a visit. */
  screen: () => Promise<void>;
  /** The trial on the screen, for the record of lost focus. */
  onTrial: (trialId: string | null) => void;
}

type Saved = Record<string, unknown>;

/** The walk through a session's timeline. */
export class Study {
  private readonly answered: Set<string>;
  private readonly total: number;
  private readonly practiceCount: number;
  private readonly scores: OwnScores;

  constructor(
    private readonly state: SessionState,
    private readonly around: Surroundings,
  ) {
    this.answered = new Set(state.answered);
    this.scores = new OwnScores(around.outbox, around.score);
    const trials = state.timeline.flatMap((step) => (step.step === "block" ? step.trials : []));
    this.practiceCount = state.timeline.reduce((n, step) => n + (step.step === "practice" ? step.trials.length : 0), 0);
    this.total = trials.length + this.practiceCount;
  }

  /** Run every step that is not done; the last one ends with the completion code. */
  async run(resumed: boolean): Promise<void> {
    this.progress();
    if (resumed) await this.welcomeBack();
    for (const step of this.state.timeline) await this.step(step);
  }

  private async step(step: Step): Promise<void> {
    const { done } = this.state;
    if (step.step === "consent") {
      if (!done.consent) await this.consent();
      return this.around.screen();
    }
    if (step.step === "instructions") return done.instructions ? undefined : this.instructions();
    if (step.step === "quiz") return this.quiz(step.questions);
    if (step.step === "practice") return this.practice(step.trials);
    if (step.step === "block") return this.block(step.trials, step.attempt);
    if (step.step === "debrief") return done.debrief ? undefined : this.debrief();
    return this.around.complete();
  }

  private progress(): void {
    const { practice } = this.around.told;
    const practised = !practice || practice.over || practice.passed ? this.practiceCount : practice.answered.length;
    this.around.shell.progress(this.answered.size + (this.practiceCount ? practised : 0), this.total);
  }

  private async welcomeBack(): Promise<void> {
    await this.around.shell.message("welcome", words.welcomeBack, words.next);
    if (this.state.done.instructions && this.state.idle_s > LONG_GAP_S) await this.instructions();
  }

  private consent(): Promise<void> {
    const { shell, outbox, decline } = this.around;
    const { consent, contact } = this.state.texts;
    // Nobody sees this field or reaches it by keys; what fills it in is a program that fills in everything.
    const trap = element("input", { class: "aside", name: "website", tabindex: -1, "aria-hidden": "true", autocomplete: "off" });
    return new Promise((resolve, reject) => {
      const accept = button(words.consent.accept, "primary", () => {
        accept.disabled = refuse.disabled = true;
        const body = { accepted: true, version: this.state.consent_version, honeypot: trap.value !== "" };
        outbox.add("consent", body).then(() => resolve(), reject);
      });
      const refuse = button(words.consent.decline, "quiet", () => {
        accept.disabled = refuse.disabled = true;
        decline().catch(reject);
      });
      shell.show(
        "consent",
        element("h1", {}, consent.title),
        prose(consent.body),
        consent.body.includes(contact) ? null : element("p", { class: "contact" }, `${words.contact} ${contact}`),
        trap,
        element("div", { class: "actions" }, accept, refuse),
      );
    });
  }

  private async instructions(): Promise<void> {
    const pages = this.state.texts.instructions;
    const since = performance.now();
    for (let i = 0; i < pages.length; ) i += await this.instruction(i, pages.length);
    await this.around.outbox.add("instructions", { viewed_ms: performance.now() - since });
  }

  private instruction(i: number, count: number): Promise<1 | -1> {
    const page = this.state.texts.instructions[i]!;
    return new Promise((resolve) => {
      const next = button(i + 1 < count ? words.next : words.start, "primary", () => resolve(1));
      const back = button(words.back, "quiet", () => resolve(-1));
      const position = count > 1 ? [element("p", { class: "position" }, `${i + 1} / ${count}`)] : [];
      this.around.shell.show(
        "instructions",
        ...position,
        element("h1", {}, page.title),
        prose(page.body),
        element("div", { class: "actions" }, next, i > 0 ? back : null),
      );
    });
  }

  private async quiz(questions: QuizQuestion[]): Promise<void> {
    const { shell, outbox, told } = this.around;
    // The server judges, so it must first hear of a try that an earlier page could not send.
    await outbox.flushed();
    while (!told.quiz.over) {
      const { attempt, wrong } = told.quiz;
      if (attempt > 1) {
        const text = { title: words.quiz.wrongTitle, body: plural(words.quiz.wrong, wrong) };
        await shell.message("quiz-wrong", text, words.next);
        await this.instructions();
      }
      const said = await askQuestions(shell, questions);
      await outbox.acknowledged(await outbox.add("quiz", { attempt, ...said }));
    }
    // Who has not passed is shown how the session ended, by the visit.
    if (!told.quiz.passed) await new Promise(() => undefined);
  }

  private async practice(trials: Trial[]): Promise<void> {
    const { shell, told } = this.around;
    const text = words.practice;
    // The server decides about practice, so it must first hear of all answers that an earlier page could not send.
    await this.around.outbox.flushed();
    if (told.practice?.over) return;
    while (!told.practice?.over) {
      const attempt = told.practice?.attempt ?? 1;
      const held = new Set(told.practice?.answered);
      const page = attempt > 1 ? text.again : text.first;
      if (held.size === 0) await shell.message("before-practice", page, words.start);
      await this.show(trials.filter(({ trial_id }) => !held.has(trial_id)), attempt);
      await this.around.outbox.flushed();
    }
    await shell.message("practice-over", text.over, words.next);
  }

  private async block(trials: Trial[], attempt: number): Promise<void> {
    const open = trials.filter(({ trial_id }) => !this.answered.has(trial_id));
    const first = trials[0]?.payload;
    if (!first || open.length === 0) return;
    if (open.length === trials.length) {
      await this.around.shell.message(`before-${first.phase}`, introduction(trials), words.start);
    }
    await this.show(open, attempt);
  }

  private async debrief(): Promise<void> {
    const { debrief } = this.state.texts;
    await this.around.shell.message("debrief", debrief, words.next);
    await this.around.outbox.add("debrief", {});
  }

  /** Show trials through jsPsych, each saved before the next begins. */
  private async show(trials: Trial[], attempt: number): Promise<void> {
    if (trials.length === 0) throw new Error("The server named no trial to show next.");
    const host = element("div", { class: "trials" });
    this.around.shell.stage.replaceChildren(host);
    const jsPsych = initJsPsych({ display_element: host });
    this.around.pictures.window(trials.slice(0, AHEAD).flatMap(({ payload }) => picturesOf(payload)));
    const timeline = trials.map((trial, i) => this.description(trials, i, trial, attempt));
    await (this.around.simulation ? jsPsych.simulate(timeline, this.around.simulation) : jsPsych.run(timeline));
    this.around.onTrial(null);
  }

  private description(trials: Trial[], i: number, trial: Trial, attempt: number) {
    const { pictures, outbox, onTrial } = this.around;
    const { payload } = trial;
    const save = (data: Saved): Promise<number> => this.save(trial, attempt, data);
    const failed = (failures: number, faults: Fault[]): void =>
      void outbox.add("load", { trial_id: trial.trial_id, failures, faults }).catch(() => undefined);
    return {
      type: trialType(trial),
      payload,
      position: position(payload),
      fill: payload.score ? (display: HTMLElement) => this.scores.fill(display, trial.trial_id) : null,
      open: (display: HTMLElement) => openAlbum(display, picturesOf(payload), pictures, failed),
      ask: (boxes: [number, number][]) => this.around.ask(trial.trial_id, boxes),
      judge: payload.feedback ? async (data: Saved) => this.verdict(await save(data)) : null,
      told: (shown: Verdict & { shown_ms: number }) =>
        void outbox.add("feedback", { trial_id: trial.trial_id, attempt, ...shown }).catch(() => undefined),
      on_start: () => {
        onTrial(trial.trial_id);
        pictures.window(trials.slice(i, i + AHEAD).flatMap(({ payload }) => picturesOf(payload)));
      },
      on_finish: async (data: Saved) => {
        if (!payload.feedback) await save(data);
        this.progress();
      },
    };
  }

  private async save(trial: Trial, attempt: number, data: Saved): Promise<number> {
    const { trial_type: _type, trial_index: _index, time_elapsed: _elapsed, plugin_version, ...measured } = data;
    const { info } = trialType(trial);
    const told = trial.payload.score ? await this.scores.told(trial.trial_id) : {};
    const plugin = `${info.name}@${plugin_version ?? info.version}`;
    const body = { trial_id: trial.trial_id, attempt, ...measured, ...told, plugin };
    if (trial.phase !== "practice") this.answered.add(trial.trial_id);
    return this.around.outbox.add("trial", body);
  }

  private async verdict(seq: number): Promise<Verdict | null> {
    await this.around.outbox.acknowledged(seq);
    return this.around.told.verdicts.get(seq) ?? null;
  }
}
