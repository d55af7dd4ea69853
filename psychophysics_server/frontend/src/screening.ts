/** One record a visit of the screen in front of the person, with its size in centimetres where the study asks for it. */

import { measureCard } from "./card";
import { deviceFacts, measureFrames } from "./device";
import type { Outbox } from "./outbox";
import type { Shell } from "./shell";
import type { Memory } from "./storage";
import type { Display } from "./wire";

interface Measured {
  px_per_cm: number | null;
  card: "" | "measured" | "remembered" | "skipped";
}

/** A measure holds for this screen at this zoom. */
function place(): string {
  return `${window.screen.width}x${window.screen.height}@${window.devicePixelRatio}`;
}

async function measured(shell: Shell, display: Display, memory: Memory): Promise<Measured> {
  if (!display.calibrate || shell.simulated) return { px_per_cm: null, card: "" };
  const [where, known] = (memory.get("card") ?? "").split("=");
  if (where === place() && Number(known) > 0) return { px_per_cm: Number(known), card: "remembered" };
  const fresh = await measureCard(shell);
  if (fresh === null) return { px_per_cm: null, card: "skipped" };
  memory.set("card", `${place()}=${fresh}`);
  return { px_per_cm: fresh, card: "measured" };
}

/** Measure what the study asks for and add the visit's `display` event, which nobody has to wait for. */
export async function recordScreen(shell: Shell, display: Display, outbox: Outbox, memory: Memory): Promise<void> {
  const size = await measured(shell, display, memory);
  void measureFrames()
    .then((frames) => outbox.add("display", { ...deviceFacts(), ...frames, ...size }))
    .catch(() => undefined);
}
