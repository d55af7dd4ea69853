/** The end of a study: nothing is left to send, the chain agrees, the code is shown; and the way out if that fails. */

import { type Api, ApiError } from "./api";
import { codeBox, deletion, download, onward } from "./codes";
import { element, prose } from "./dom";
import type { Outbox } from "./outbox";
import { saving } from "./phrases";
import { pause } from "./pictures";
import type { Shell } from "./shell";
import type { Release, SessionState } from "./wire";
import { words } from "./words";

const PATIENCE_MS = 60_000;
const AGAIN_MS = 2_000;

/** The session must be read again: some trials have no answer on the server, or it ended without them. */
export class TrialsMissing extends Error {}

/** Walks through the completion handshake and shows what comes of it. */
export class Completion {
  private left = element("p", { class: "lead", role: "status" });
  private help = element("div", { class: "help" });

  constructor(
    private readonly shell: Shell,
    private readonly api: Api,
    private readonly outbox: Outbox,
    private readonly state: SessionState,
    private readonly patience = PATIENCE_MS,
  ) {}

  /** Resolve once the code is on the screen; rejects with `TrialsMissing` or a final `ApiError`. */
  async run(): Promise<void> {
    this.shell.show("saving", element("h1", {}, words.saving.title), this.left, this.help);
    this.count();
    const timer = window.setTimeout(() => void this.offerHelp(), this.patience);
    try {
      this.celebrate(await this.release());
    } finally {
      window.clearTimeout(timer);
    }
  }

  /** Say how much is left to send; called whenever that changes. */
  count(): void {
    this.left.textContent = saving(this.outbox.left);
  }

  private async release(): Promise<Release> {
    let { lastSeq, chain } = { lastSeq: NaN, chain: "" };
    for (;;) {
      await this.outbox.flushed();
      if (Number.isNaN(lastSeq)) ({ lastSeq, chain } = this.outbox);
      try {
        return await this.api.complete(lastSeq, chain);
      } catch (error) {
        if (!(error instanceof ApiError) || error.final) throw error;
        if (error.slug === "over") throw new TrialsMissing(error.message);
        if (error.slug === "incomplete") {
          if ((error.data.missing_trials as unknown[] | undefined)?.length) throw new TrialsMissing(error.message);
          const held = await this.api.session().catch(() => null);
          if (held) [lastSeq, chain] = [held.next_seq - 1, held.chain];
        }
        await pause(Math.max(AGAIN_MS, error.retryAfterMs));
      }
    }
  }

  private async offerHelp(): Promise<void> {
    const { session, study, texts } = this.state;
    const held = { study: study.study, session, last_seq: this.outbox.lastSeq, chain: this.outbox.chain, events: this.outbox.unsent };
    const copy: Record<string, unknown> = { ...held };
    const parts: Node[] = [element("p", {}, words.saving.stuck)];
    try {
      const { code, deletion_token } = await this.api.manual("completion did not succeed within a minute");
      Object.assign(copy, { code, deletion_token });
      parts.push(element("p", {}, words.saving.manual), codeBox(code));
    } catch {
      parts.push(element("p", {}, words.saving.unreachable, " ", element("code", {}, session)));
    }
    const text = JSON.stringify(copy, null, 1);
    parts.push(element("p", {}, download(`${study.study}-${session}.json`, text, "application/json", words.saving.backup)));
    parts.push(element("p", { class: "contact" }, `${words.contact} ${texts.contact}`));
    if (this.help.isConnected) this.help.replaceChildren(...parts);
  }

  private celebrate(release: Release): void {
    const { study, texts } = this.state;
    this.shell.offerWithdrawal(null);
    this.shell.show(
      "code",
      element("div", { class: "badge", "aria-hidden": "true" }, "✓"),
      element("h1", {}, words.code.title),
      prose(words.code.body),
      codeBox(release.code),
      onward(release) ?? element("p", { class: "hint" }, words.code.close),
      ...deletion(release, study.study, texts.contact),
      element("p", { class: "contact" }, `${words.contact} ${texts.contact}`),
    );
  }
}
