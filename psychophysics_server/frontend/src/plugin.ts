/** Makes a jsPsych plugin of a trial type: loading, showing, and two ways to simulate a person. */

import { type JsPsych, type JsPsychPlugin, ParameterType } from "jspsych";

import type { Album } from "./album";
import type { Data, Given, TrialParameters, TrialScreen } from "./screen";
import type { Payload } from "./wire";

/** What a trial type brings: what it shows, and what a person without an opinion would answer. */
export interface TrialKind<P extends Payload> {
  name: string;
  version: string;
  /** The type's own data, beside the ones that all trials write. */
  data: Record<string, { type: ParameterType; array?: boolean }>;
  screen: new (parameters: TrialParameters<P>, album: Album) => TrialScreen<P>;
  /** Data of a simulated person; `rt_ms` begins after the lock-out. */
  invent: (payload: P, chance: Chance) => Given;
}

/** The draws a simulated person needs. */
export interface Chance {
  /** A whole number from 0 to `count` - 1. */
  below: (count: number) => number;
  /** A plausible time to answer, in milliseconds. */
  rt: () => number;
}

const { STRING, FLOAT, INT, BOOL, OBJECT, FUNCTION } = ParameterType;

const parameters = {
  /** What is shown: the payload of the trial type (stimuli/trials.py). */
  payload: { type: OBJECT, default: undefined },
  /** Where we are, in words. */
  position: { type: STRING, default: "" },
  /** Is given the display, resolves with the album of this trial's pictures. */
  open: { type: FUNCTION, default: undefined },
  /** If given: resolves with what is shown instead of the payload, once the server tells it. */
  fill: { type: FUNCTION, default: null },
  /** If given: is told the answer, resolves with `{correct, expected}`, which is then shown. */
  judge: { type: FUNCTION, default: null },
  /** If given: is told the verdict that was shown and for how long. */
  told: { type: FUNCTION, default: null },
  /** If given: asks the server's network what it recognises in these boxes (`reveal`). */
  ask: { type: FUNCTION, default: null },
} as const;

const shared = {
  /** The answer: an id of `payload.options`, '' where nothing is asked, 'na' where none came in time. */
  response: { type: STRING },
  /** Milliseconds from onset to the response, not rounded. */
  rt_ms: { type: FLOAT },
  /** Onset of the stimulus on the page's `performance.now()` clock. */
  onset_ms: { type: FLOAT },
  /** Median interval between frames, and frames that the browser skipped during the trial. */
  frame_ms: { type: FLOAT },
  dropped_frames: { type: INT },
  /** `key`, `mouse`, `touch`, `pen` or ''. */
  input: { type: STRING },
  lockout_ms: { type: INT },
  /** Whether the right answer was told. */
  feedback: { type: BOOL },
  /** Times that the page lost the focus or was hidden, and left full screen; each with its time from onset. */
  focus_lost: { type: INT },
  fullscreen_exits: { type: INT },
  conduct: { type: OBJECT, array: true },
  /** `<width>x<height>` of the window in CSS pixels, device pixels per CSS pixel, pinch zoom. */
  window: { type: STRING },
  pixel_ratio: { type: FLOAT },
  zoom: { type: FLOAT },
  /** Role, hash, place and displayed size of each picture at onset. */
  pictures: { type: OBJECT, array: true },
  /** Times that the person had to ask for the pictures again; what failed at each attempt to load one. */
  load_failures: { type: INT },
  load_faults: { type: STRING, array: true },
} as const;

type Parameters<P extends Payload> = TrialParameters<P> & {
  open: (display: HTMLElement) => Promise<Album>;
  fill?: ((display: HTMLElement) => Promise<P>) | null;
};

// jsPsych derives the type of parameters from `info`, where a payload is any object.
type AnyPlugin = { new (jsPsych: JsPsych): JsPsychPlugin<any>; info: { name: string; version: string } };

/** Return the plugin class of a trial type. */
export function trialPlugin<P extends Payload>(kind: TrialKind<P>): AnyPlugin {
  return class {
    static info = { name: kind.name, version: kind.version, parameters, data: { ...shared, ...kind.data } };

    constructor(private readonly jsPsych: JsPsych) {}

    async trial(display: HTMLElement, trial: Parameters<P>, onLoad?: () => void): Promise<Data> {
      const screen = await this.open(display, trial);
      await screen.show(display);
      onLoad?.();
      return screen.done;
    }

    async simulate(trial: Parameters<P>, mode: "visual" | "data-only", options: { data?: Data }, onLoad?: () => void): Promise<Data> {
      const given = { ...kind.invent(trial.payload, this.chance(trial.payload.lockout_ms ?? 0)), ...options.data } as Given;
      if (mode === "visual") return this.act(trial, given, onLoad);
      onLoad?.();
      const data = { ...blank(), lockout_ms: trial.payload.lockout_ms ?? 0, feedback: trial.judge !== null, ...given };
      await trial.judge?.(data);
      return data;
    }

    private async open(display: HTMLElement, trial: Parameters<P>): Promise<TrialScreen<P>> {
      const payload = (await trial.fill?.(display)) ?? trial.payload;
      return new kind.screen({ ...trial, payload }, await trial.open(display));
    }

    /** Take the real screen as a person would. */
    private async act(trial: Parameters<P>, given: Given, onLoad?: () => void): Promise<Data> {
      const display = this.jsPsych.getDisplayElement();
      const screen = await this.open(display, trial);
      await screen.show(display);
      onLoad?.();
      this.jsPsych.pluginAPI.setTimeout(() => screen.act(given), given.rt_ms ?? 0);
      let over = false;
      void screen.done.then(() => (over = true));
      const next = (): void => {
        display.querySelector<HTMLButtonElement>(".verdict .button")?.click();
        if (!over) this.jsPsych.pluginAPI.setTimeout(next, 50);
      };
      next();
      return screen.done;
    }

    private chance(lockout: number): Chance {
      const { randomInt, sampleExGaussian } = this.jsPsych.randomization;
      return { below: (count) => randomInt(0, count - 1), rt: () => lockout + sampleExGaussian(600, 80, 1 / 200, true) };
    }
  } as unknown as AnyPlugin;
}

function blank(): Data {
  return {
    onset_ms: performance.now(),
    frame_ms: 1000 / 60,
    dropped_frames: 0,
    input: "",
    focus_lost: 0,
    fullscreen_exits: 0,
    conduct: [],
    window: `${window.innerWidth}x${window.innerHeight}`,
    pixel_ratio: window.devicePixelRatio,
    zoom: 1,
    pictures: [],
    load_failures: 0,
    load_faults: [],
  };
}
