/** What the study asks of the screen: checked before anything else, live, and watched from then on. */

import { isMobile } from "./device";
import { button, element } from "./dom";
import type { Shell } from "./shell";
import type { Display } from "./wire";
import { fill, words } from "./words";

function largeEnough({ min_width, min_height }: Display): boolean {
  return window.innerWidth >= min_width && window.innerHeight >= min_height;
}

function sizes({ min_width, min_height }: Display): Record<string, string | number> {
  return { width: min_width, height: min_height, now: `${window.innerWidth} × ${window.innerHeight}` };
}

/** Ask for full screen; it must come from a click, and a browser may refuse. */
async function fullscreen(): Promise<void> {
  await document.documentElement.requestFullscreen?.({ navigationUI: "hide" }).catch(() => undefined);
}

/**
 * Resolve once the screen is what the study needs; at once, without a page, if it is.
 *
 * `unsuitable` ends the session for a person who cannot change that.
 */
export async function checkScreen(shell: Shell, display: Display, unsuitable: () => Promise<void>): Promise<void> {
  const barred = !display.mobile && isMobile();
  const asks = display.fullscreen && document.fullscreenElement === null && "requestFullscreen" in document.documentElement;
  if (shell.simulated || (!barred && largeEnough(display) && !asks)) return watchScreen(shell, display);
  await page(shell, display, { barred, asks, unsuitable });
  watchScreen(shell, display);
}

interface Asked {
  barred: boolean;
  asks: boolean;
  unsuitable: () => Promise<void>;
}

function page(shell: Shell, display: Display, { barred, asks, unsuitable }: Asked): Promise<void> {
  return new Promise((resolve, reject) => {
    const size = element("p", { class: "size", role: "status" });
    const hint = element("p", {}, words.display.larger);
    const go = button(asks ? words.display.enter : words.next, "primary", () => {
      go.disabled = true;
      window.removeEventListener("resize", look);
      void (asks ? fullscreen() : Promise.resolve()).then(resolve);
    });
    const leave = button(words.display.cannot, "quiet", () => {
      leave.disabled = true;
      leave.textContent = words.display.leaving;
      unsuitable().catch(reject);
    });
    const look = (): void => {
      const fits = largeEnough(display);
      go.disabled = !fits;
      size.textContent = fill(fits ? words.display.enough : words.display.small, sizes(display));
      size.className = fits ? "size told right" : "size told wrong";
      hint.hidden = leave.hidden = fits;
    };
    const actions = element("div", { class: "actions" }, barred ? null : go, leave);
    const heading = element("h1", {}, words.display.title);
    if (barred) return shell.show("display", heading, element("p", {}, words.display.mobile), actions);
    const sized = display.min_width > 0 || display.min_height > 0;
    shell.show("display", heading, sized ? size : null, sized ? hint : null, asks ? element("p", {}, words.display.fullscreen) : null, actions);
    window.addEventListener("resize", look);
    look();
  });
}

/** Say so, without interrupting, while the window is too small or full screen was left. */
function watchScreen(shell: Shell, display: Display): void {
  const look = (): void => {
    if (!largeEnough(display)) shell.advise(words.display.shrunk);
    else if (display.fullscreen && document.fullscreenElement === null && document.fullscreenEnabled && !shell.simulated)
      shell.advise(words.display.left, words.display.back, () => void fullscreen());
    else shell.advise("");
  };
  window.addEventListener("resize", look);
  document.addEventListener("fullscreenchange", look);
  look();
}
