/** The end of a study: nothing is left to send, the chain agrees, the code is shown; and the way out if that fails. */

import { type Api, ApiError } from "./api";
import { button, element, prose } from "./dom";
import type { Outbox } from "./outbox";
import { saving } from "./phrases";
import { pause } from "./pictures";
import type { Shell } from "./shell";
import type { Release, SessionState } from "./wire";
import { words } from "./words";

const PATIENCE_MS = 60_000;
const AGAIN_MS = 2_000;

/** Some trials have no answer on the server: the session must be read again and they must be shown. */
export class TrialsMissing extends Error {}

function download(name: string, data: unknown): HTMLAnchorElement {
  const blob = new Blob([JSON.stringify(data, null, 1)], { type: "application/json" });
  return element("a", { class: "button quiet", href: URL.createObjectURL(blob), download: name }, words.saving.backup);
}

function codeBox(code: string): HTMLElement {
  const copy = button(words.code.copy, "primary", () => {
    const select = (): void => window.getSelection()?.selectAllChildren(text);
    const copied = navigator.clipboard ? navigator.clipboard.writeText(code) : Promise.reject(new Error("no clipboard"));
    copied.then(() => (copy.textContent = words.code.copied)).catch(select);
  });
  const text = element("code", { class: "code", id: "code" }, code);
  return element("div", { class: "codebox" }, text, copy);
}

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
    const copy = { study: study.study, session, last_seq: this.outbox.lastSeq, chain: this.outbox.chain, events: this.outbox.unsent };
    const parts: Node[] = [element("p", {}, words.saving.stuck)];
    try {
      const { code } = await this.api.manual("completion did not succeed within a minute");
      parts.push(element("p", {}, words.saving.manual), codeBox(code));
    } catch {
      parts.push(element("p", {}, words.saving.unreachable, " ", element("code", {}, session)));
    }
    parts.push(element("p", {}, download(`${study.study}-${session}.json`, copy)));
    parts.push(element("p", { class: "contact" }, `${words.contact} ${texts.contact}`));
    if (this.help.isConnected) this.help.replaceChildren(...parts);
  }

  private celebrate({ code, url }: Release): void {
    this.shell.offerWithdrawal(null);
    const onward = url && /^https?:/.test(url) ? element("a", { class: "button primary", href: url, rel: "noreferrer" }, words.code.onward) : null;
    this.shell.show(
      "code",
      element("div", { class: "badge", "aria-hidden": "true" }, "✓"),
      element("h1", {}, words.code.title),
      prose(words.code.body),
      codeBox(code),
      ...(onward ? [element("div", { class: "actions" }, onward)] : [element("p", { class: "hint" }, words.code.close)]),
      element("p", { class: "contact" }, `${words.contact} ${this.state.texts.contact}`),
    );
  }
}
