/** Shows one trial to a researcher through the participants' own plugins, with the answer marked; nothing is sent. */

import { initJsPsych } from "jspsych";

import { openAlbum } from "./album";
import { element } from "./dom";
import { position } from "./phrases";
import { dropPicture, loadPicture, Pictures, picturesOf } from "./pictures";
import { trialType } from "./trials";
import type { Payload, Trial } from "./wire";
import { speak, type Words } from "./words";

interface Held {
  trial: Trial<Payload>;
  answers: { seq: number; attempt: number; body: { response?: string } }[];
  expected: string;
}

/** The elements that stand for the options, in displayed order; none if the trial type draws them otherwise. */
function places(host: HTMLElement, options: readonly string[]): Element[] {
  for (const selector of [".query", ".option"]) {
    const found = [...host.querySelectorAll(selector)];
    if (found.length > 0 && found.length === options.length) return found;
  }
  return [];
}

function mark(host: HTMLElement, { trial, answers, expected }: Held): void {
  const options = trial.payload.options ?? [];
  const given = answers.at(-1)?.body.response;
  places(host, options).forEach((place, i) => {
    const tags = [options[i] === given && "answered", options[i] === expected && "expected"].filter((tag) => tag !== false);
    if (tags.length === 0) return;
    place.classList.add(...tags.map((tag) => `replay-${tag}`));
    place.append(element("span", { class: "replay-tag" }, tags.join(", ")));
  });
}

/** Show the trial as often as it is answered, until the page is left. */
async function replay(root: HTMLElement): Promise<void> {
  const held = JSON.parse(root.dataset.trial ?? "") as Held;
  speak(JSON.parse(root.dataset.words ?? "{}") as Words);
  const { payload } = held.trial;
  const names = picturesOf(payload);
  for (;;) {
    const pictures = new Pictures(loadPicture, dropPicture);
    const host = element("div", { class: "trials" });
    root.classList.add("stage");
    root.replaceChildren(host);
    const jsPsych = initJsPsych({ display_element: host });
    const description = {
      type: trialType(held.trial),
      payload,
      position: position(payload),
      open: (display: HTMLElement) => openAlbum(display, names, pictures, () => undefined),
      judge: payload.feedback
        ? async (data: Record<string, unknown>) => ({ correct: data.response === held.expected, expected: held.expected })
        : null,
      on_load: () => mark(host, held),
    };
    await jsPsych.run([description]);
  }
}

const root = document.getElementById("replay");
if (root?.dataset.trial) {
  replay(root).catch((error: unknown) => {
    root.replaceChildren(element("p", { role: "alert" }, error instanceof Error ? error.message : String(error)));
  });
}
