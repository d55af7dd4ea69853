/** The frame around every page: study title, progress, the way out, and one <main> whose heading takes the focus. */

import { button, element, prose } from "./dom";
import type { Page } from "./wire";
import { fill, words } from "./words";

/** Keep the second click of a double click from pressing the button of the page that the first one has opened. */
function onlyOnce(event: MouseEvent): void {
  if (event.detail > 1 && event.target instanceof Element && event.target.closest(".actions .button")) {
    event.stopImmediatePropagation();
    event.preventDefault();
  }
}

/** Owns the page; everything that a person sees is put into `stage`. */
export class Shell {
  readonly stage: HTMLElement;
  private readonly bar: HTMLElement;
  private readonly count: HTMLElement;
  private readonly meter: HTMLElement;
  private readonly leave: HTMLButtonElement;
  private readonly notice: HTMLElement;
  private readonly advice: HTMLElement;
  /** Simulated people press the first button of every page. */
  simulated = false;
  private withdraw: ((reason: string) => Promise<void>) | null = null;

  constructor(main: HTMLElement, title: string) {
    this.stage = main;
    main.replaceChildren();
    main.classList.add("stage");
    this.bar = element("div", { class: "bar" });
    this.count = element("span", { class: "count" });
    this.meter = element("div", { class: "meter", role: "progressbar", "aria-label": words.progressLabel, "aria-valuemin": 0, hidden: true }, this.bar);
    this.leave = button(words.withdraw, "quiet", () => this.askToLeave());
    this.leave.classList.add("leave");
    this.leave.hidden = true;
    this.notice = element("p", { class: "notice", role: "status", hidden: true });
    const top = element("div", { class: "top" }, element("span", { class: "study" }, title), this.count, this.leave);
    this.advice = element("div", { class: "advice", role: "status", hidden: true });
    main.before(element("header", { class: "header" }, top, this.meter, this.notice, this.advice));
  }

  /** Offer the way out on every page from now on, or no longer. */
  offerWithdrawal(withdraw: ((reason: string) => Promise<void>) | null): void {
    this.withdraw = withdraw;
    this.leave.hidden = withdraw === null;
  }

  progress(done: number, count: number): void {
    this.meter.hidden = count === 0;
    this.meter.setAttribute("aria-valuemax", String(count));
    this.meter.setAttribute("aria-valuenow", String(done));
    this.count.textContent = count === 0 ? "" : fill(words.progress, { done, count });
    this.bar.style.width = `${count === 0 ? 0 : (100 * done) / count}%`;
  }

  /** A line under the header that does not interrupt, or '' for none. */
  tell(message: string): void {
    this.notice.textContent = message;
    this.notice.hidden = message === "";
  }

  /** Another line, about the screen, with a button if there is something to do; '' for none. */
  advise(message: string, label = "", act: () => void = () => undefined): void {
    this.advice.replaceChildren(element("p", {}, message), ...(label ? [button(label, "quiet", act)] : []));
    this.advice.hidden = message === "";
  }

  /** Replace the page and give the focus to its heading, so that a screen reader begins there. */
  show(kind: string, ...children: (Node | null)[]): void {
    const page = element("div", { class: "page", "data-page": kind }, ...children);
    page.addEventListener("click", onlyOnce, true);
    this.stage.replaceChildren(page);
    window.scrollTo(0, 0);
    const heading = page.querySelector("h1");
    heading?.setAttribute("tabindex", "-1");
    heading?.focus({ preventScroll: true });
    if (this.simulated) window.setTimeout(() => page.querySelector<HTMLButtonElement>(".actions .primary:enabled")?.click());
  }

  /** Show a text with one button and resolve when it is pressed. */
  message(kind: string, { title, body }: Page, label: string): Promise<void> {
    return new Promise((resolve) => {
      const go = button(label, "primary", () => resolve());
      this.show(kind, element("h1", {}, title), prose(body), element("div", { class: "actions" }, go));
    });
  }

  /** Show a text that is the end of the road. */
  end(kind: string, { title, body }: Page, ...rest: Node[]): void {
    this.show(kind, element("h1", {}, title), prose(body), ...rest);
  }

  private askToLeave(): void {
    const reason = element("textarea", { id: "reason", rows: 3, maxlength: 500 });
    const failed = element("p", { class: "fault", role: "alert", hidden: true }, words.leave.failed);
    const dialog = element("dialog", { class: "dialog", "aria-labelledby": "leave-title" });
    const stay = button(words.leave.stay, "primary", () => dialog.close());
    const go = button(words.leave.go, "danger", () => {
      go.disabled = true;
      failed.hidden = true;
      this.withdraw?.(reason.value.trim())
        .then(() => dialog.close())
        .catch(() => ((failed.hidden = false), (go.disabled = false)));
    });
    dialog.append(
      element("h2", { id: "leave-title" }, words.leave.title),
      prose(words.leave.body),
      element("label", { for: "reason" }, words.leave.reason),
      reason,
      failed,
      element("div", { class: "actions" }, stay, go),
    );
    dialog.addEventListener("close", () => dialog.remove());
    document.body.append(dialog);
    dialog.showModal();
    stay.focus();
  }
}
