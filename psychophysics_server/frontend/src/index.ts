/** Starts the participant's page and holds its parts together. */

import "./style.css";
import "./reveal.css";
import "./draw.css";
import "./trials.css";
import "./care.css";

import { type Api, ApiError } from "./api";
import { Completion, TrialsMissing } from "./completion";
import { codeBox, onward } from "./codes";
import { watchConduct } from "./conduct";
import { checkScreen } from "./display";
import { element } from "./dom";
import { hasEnded, showEnding, showNoPlace } from "./ending";
import { connect, enter, readParameters, type Simulation, takeSimulation } from "./entry";
import { ConflictError, Outbox } from "./outbox";
import { dropPicture, loadPicture, pause, Pictures } from "./pictures";
import { withUnsent } from "./resume";
import { recordScreen } from "./screening";
import { Shell } from "./shell";
import { Memory, openStore } from "./storage";
import { Study, type Surroundings } from "./study";
import type { BatchAnswer, Outcome, Page, SessionState } from "./wire";
import { speak, words, type Words } from "./words";

/** One person's visit. */
class Visit {
  private outbox: Outbox | null = null;
  private completion: Completion | null = null;
  private over = false;
  private ending: Promise<void> | null = null;
  private held!: SessionState;

  constructor(
    private readonly shell: Shell,
    private readonly api: Api,
    private readonly memory: Memory,
    private readonly simulation: Simulation,
  ) {}

  async run(): Promise<void> {
    const held = (this.held = await enter(this.api, () => this.shell.end("elsewhere", words.elsewhere)));
    document.documentElement.lang = held.language;
    speak(held.words);
    const told: Surroundings["told"] = { quiz: held.quiz, practice: held.practice, verdicts: new Map() };
    const outbox = await this.openOutbox(held, told);
    this.outbox = outbox;
    this.shell.offerWithdrawal(held.state === "COMPLETE" ? null : (reason) => this.withdraw(reason, words.leave.done));
    if (hasEnded(held.state)) return this.end();
    if (held.state !== "COMPLETE") await checkScreen(this.shell, held.display, () => this.unsuitable());
    const resumed = outbox.lastSeq > 0 && held.state !== "COMPLETE";
    const state = resumed ? await this.comeBack(held, told) : withUnsent(held, outbox.unsent);
    if (this.ending) return this.ending;
    let onScreen: string | null = null;
    const study = new Study(state, {
      shell: this.shell,
      outbox,
      pictures: new Pictures(loadPicture, dropPicture),
      told,
      simulation: this.simulation,
      ask: (trialId, boxes) => this.api.ask(trialId, boxes),
      score: (trialId) => this.api.score(trialId),
      decline: () => this.withdraw("no consent", words.declined),
      complete: () => this.complete(state),
      screen: () => recordScreen(this.shell, held.display, outbox, this.memory),
      onTrial: (trialId) => (onScreen = trialId),
    });
    if (state.state === "COMPLETE") return this.complete(state);
    watchConduct((what, at) => {
      // Before consent nothing is recorded, and after the end nothing more.
      if (this.over || outbox.lastSeq === 0) return;
      outbox.add("focus", { what, at_ms: at, trial_id: onScreen }).catch(() => undefined);
    });
    await study.run(resumed);
  }

  /** Say that the person is back; where that changes what is to be done, hear from the server what it is. */
  private async comeBack(held: SessionState, told: Surroundings["told"]): Promise<SessionState> {
    const outbox = this.outbox!;
    await outbox.add("resume", { reason: "reload", gap_s: held.idle_s });
    if (held.resume.policy === "continue") return withUnsent(held, outbox.unsent);
    await outbox.flushed();
    const fresh = await this.api.session();
    [told.quiz, told.practice] = [fresh.quiz, fresh.practice];
    // The pause is the one before this visit.
    return { ...withUnsent(fresh, outbox.unsent), idle_s: held.idle_s };
  }

  private async unsuitable(): Promise<void> {
    await this.api.unsuitable();
    await this.end();
  }

  /** Show how a session ended without its trials. */
  private end(): Promise<void> {
    this.over = true;
    this.ending ??= showEnding(this.shell, this.api, this.held);
    return this.ending;
  }

  /** Show what went wrong and offer to begin again from what is saved. */
  async trouble(error: unknown): Promise<void> {
    if (this.over && !(error instanceof ApiError && error.status === 410)) return;
    if (error instanceof TrialsMissing || error instanceof ConflictError) return location.reload();
    const gone = error instanceof ApiError && error.status === 410;
    if (gone) return this.forget({ title: words.leave.done.title, body: (error as ApiError).message });
    const message = error instanceof Error ? error.message : String(error);
    await this.shell.message("trouble", { title: words.trouble.title, body: message }, words.trouble.retry);
    location.reload();
  }

  private async openOutbox(state: SessionState, told: Surroundings["told"]): Promise<Outbox> {
    const outbox: Outbox = await Outbox.open({
      store: await openStore(state.session),
      send: (events) => this.api.send(events),
      server: state,
      wait: pause,
      random: Math.random,
      now: Date.now,
      onChange: () => this.onOutbox(),
      onAnswer: (answer) => this.onAnswer(answer, told),
    });
    window.addEventListener("online", () => (this.shell.tell(""), outbox.wake()));
    window.addEventListener("offline", () => this.shell.tell(words.offline));
    window.addEventListener("pagehide", () => this.over || this.api.sendLate(outbox.unsent.slice(0, 32)));
    return outbox;
  }

  private onOutbox(): void {
    this.completion?.count();
    if (this.outbox?.refused) void this.trouble(this.outbox.refused);
  }

  private onAnswer(answer: BatchAnswer, told: Surroundings["told"]): void {
    if (answer.quiz) told.quiz = answer.quiz;
    if (answer.practice) told.practice = answer.practice;
    for (const [seq, verdict] of Object.entries(answer.feedback ?? {})) told.verdicts.set(Number(seq), verdict);
    for (const [seq, fault] of Object.entries(answer.faults ?? {})) console.warn(`event ${seq} was kept but does not count: ${fault}`);
    if (hasEnded(answer.state) && !this.over) this.end().catch((error: unknown) => this.trouble(error));
  }

  private async complete(state: SessionState): Promise<void> {
    this.completion = new Completion(this.shell, this.api, this.outbox!, state);
    await this.completion.run();
    this.over = true;
    await this.outbox!.clear();
  }

  private async withdraw(reason: string, farewell: Page): Promise<void> {
    const outcome = await this.api.withdraw(reason);
    await this.forget(farewell, outcome);
  }

  private async forget(farewell: Page, outcome: Outcome | null = null): Promise<void> {
    this.over = true;
    this.memory.set("token", null);
    this.shell.offerWithdrawal(null);
    this.shell.progress(0, 0);
    const back = outcome?.code ? [codeBox(outcome.code), onward(outcome) ?? element("span")] : [];
    this.shell.end("farewell", farewell, ...back);
    await this.outbox?.clear();
  }
}

async function main(): Promise<void> {
  const root = document.getElementById("limen");
  if (!root) return;
  speak(JSON.parse(root.dataset.words ?? "{}") as Words);
  const name = root.dataset.study ?? "";
  const memory = new Memory(name);
  const shell = new Shell(root, root.dataset.title ?? document.title);
  shell.end("loading", { title: words.loading, body: "" });
  const parameters = readParameters();
  const simulation = takeSimulation(parameters);
  shell.simulated = simulation !== null;
  for (;;) {
    try {
      const visit = new Visit(shell, await connect(name, memory, parameters, simulation), memory, simulation);
      return await visit.run().catch((error: unknown) => visit.trouble(error));
    } catch (error) {
      if (error instanceof ApiError && typeof error.data.code === "string") return showNoPlace(shell, error);
      const body = error instanceof Error ? error.message : String(error);
      const paused = error instanceof ApiError && error.slug === "paused";
      await shell.message("trouble", { title: paused ? words.trouble.paused : words.trouble.title, body }, words.trouble.retry);
    }
  }
}

void main();
