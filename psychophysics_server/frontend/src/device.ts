/** Coarse facts about the device: families of browser and system, never the user agent string; and the frame interval. */

import { browserClock, type Clock, median } from "./timing";

type Brands = { userAgentData?: { mobile?: boolean } };

const BROWSERS: [string, RegExp][] = [
  ["edge", /\bEdg(e|A|iOS)?\//],
  ["opera", /\bOPR\//],
  ["samsung", /SamsungBrowser/],
  ["firefox", /Firefox|FxiOS/],
  ["chrome", /Chrom(e|ium)|CriOS/],
  ["safari", /Safari/],
];
const SYSTEMS: [string, RegExp][] = [
  ["android", /Android/],
  ["ios", /iPhone|iPad|iPod/],
  ["chromeos", /CrOS/],
  ["windows", /Windows/],
  ["macos", /Mac OS X|Macintosh/],
  ["linux", /Linux|X11/],
];

function family(table: [string, RegExp][], agent: string): string {
  return table.find(([, pattern]) => pattern.test(agent))?.[0] ?? "other";
}

/** Family of the browser, e.g. `firefox`. */
export function browserFamily(agent: string): string {
  return family(BROWSERS, agent);
}

/** Family of the operating system; an iPad that says it is a Mac is told by its touch screen. */
export function systemFamily(agent: string, touchPoints: number): string {
  const found = family(SYSTEMS, agent);
  return found === "macos" && touchPoints > 1 ? "ios" : found;
}

/** Whether this is a phone or a tablet. */
export function isMobile(nav: Navigator = navigator): boolean {
  if ((nav as Navigator & Brands).userAgentData?.mobile) return true;
  return ["android", "ios"].includes(systemFamily(nav.userAgent, nav.maxTouchPoints)) || /Mobi/.test(nav.userAgent);
}

/** `<width>x<height>` of the window's inside, in CSS pixels. */
export function windowSize(): string {
  return `${window.innerWidth}x${window.innerHeight}`;
}

const FRAMES = 60;
const LONGEST_MS = 4000;

/** Measure the interval between frames over about a second; a hidden page draws none, so there is an end to waiting. */
export function measureFrames(clock: Clock = browserClock, count = FRAMES): Promise<{ frame_ms: number | null; frames: number }> {
  return new Promise((resolve) => {
    const intervals: number[] = [];
    let last: number | null = null;
    const end = (): void => {
      window.clearTimeout(timer);
      const usual = median(intervals);
      resolve({ frame_ms: Number.isNaN(usual) ? null : usual, frames: intervals.length });
    };
    const tick = (time: number): void => {
      if (last !== null) intervals.push(time - last);
      last = time;
      if (intervals.length >= count) end();
      else clock.frame(tick);
    };
    const timer = window.setTimeout(end, LONGEST_MS);
    clock.frame(tick);
  });
}

/** What the record of a visit says of the device. */
export function deviceFacts(): Record<string, unknown> {
  return {
    window: windowSize(),
    screen: `${window.screen.width}x${window.screen.height}`,
    pixel_ratio: window.devicePixelRatio,
    browser: browserFamily(navigator.userAgent),
    system: systemFamily(navigator.userAgent, navigator.maxTouchPoints),
    mobile: isMobile(),
    touch: navigator.maxTouchPoints > 0,
    fullscreen: document.fullscreenElement !== null,
  };
}
