/** The size of the screen, measured with a bank card held against it. */

import { button, element } from "./dom";
import type { Shell } from "./shell";
import { fill, words } from "./words";

/** Width and height of a card (ISO/IEC 7810, ID-1), in cm. */
export const CARD_CM = { long: 8.56, short: 5.398 };
const NARROW_PX = 600;
const GUESS_PX_PER_CM = 96 / 2.54;

/** CSS pixels per centimetre, given how wide the card is on the screen; upright it lies on its short side. */
export function pixelsPerCm(width: number, upright: boolean): number {
  return width / (upright ? CARD_CM.short : CARD_CM.long);
}

/** Show a card that can be resized; resolve with CSS pixels per centimetre, or null without a card. */
export function measureCard(shell: Shell): Promise<number | null> {
  const upright = window.innerWidth < NARROW_PX;
  const across = upright ? CARD_CM.short : CARD_CM.long;
  const most = Math.max(200, Math.min(1200, document.documentElement.clientWidth - (upright ? 40 : 120)));
  const start = Math.min(most, Math.round(GUESS_PX_PER_CM * across));
  return new Promise((resolve) => {
    const card = element("div", { class: upright ? "bankcard upright" : "bankcard", "aria-hidden": "true" });
    const shown = element("output", { class: "hint", for: "card-width" });
    const slider = element("input", { id: "card-width", class: "slider", type: "range", min: 120, max: most, step: 1, value: start });
    const resize = (): void => {
      card.style.width = `${slider.value}px`;
      shown.textContent = fill(words.card.value, { pixels: slider.value });
    };
    const done = button(words.card.done, "primary", () => resolve(pixelsPerCm(Number(slider.value), upright)));
    const skip = button(words.card.skip, "quiet", () => resolve(null));
    slider.addEventListener("input", resize);
    resize();
    shell.show(
      "card",
      element("h1", {}, words.card.title),
      element("p", {}, words.card.body),
      element("div", { class: "bench" }, card),
      element("label", { class: "ask", for: "card-width" }, words.card.slider),
      slider,
      shown,
      element("div", { class: "actions" }, done, skip),
    );
  });
}
