/** The pictures of one trial: loaded before it shows, placed by role, and measured as they are displayed. */

import { button, element } from "./dom";
import type { Fault, Picture } from "./pictures";
import { words } from "./words";

/** What a trial asks of the store of pictures. */
export interface Source {
  get(name: string): Promise<Picture>;
  faultsOf(names: Iterable<string>): Fault[];
}

/** Where and how large a picture was on the screen at onset; CSS pixels from the top left of the page. */
export interface Placed {
  role: string;
  sha256: string;
  x: number;
  y: number;
  width: number;
  height: number;
  device_width: number;
  device_height: number;
}

/** Up to this side a picture is scaled by whole device pixels, so that every pixel of it stays a square. */
const SMALL = 64;

/** Ask for the pictures until they are there; the trial waits, the study does not fail. */
export async function openAlbum(
  display: HTMLElement,
  names: readonly string[],
  source: Source,
  failed: ((failures: number, faults: Fault[]) => void) | null,
): Promise<Album> {
  for (let failures = 0; ; failures++) {
    try {
      const pictures = await Promise.all([...new Set(names)].map((name) => source.get(name)));
      return new Album(pictures, failures, source.faultsOf(names));
    } catch {
      failed?.(failures + 1, source.faultsOf(names));
      await askAgain(display);
    }
  }
}

async function askAgain(display: HTMLElement): Promise<void> {
  const text = words.pictureFailed;
  await new Promise<void>((resolve) => {
    const actions = element("div", { class: "actions" }, button(text.retry, "primary", () => resolve()));
    const page = { class: "page", role: "alert", "data-page": "picture-failed" };
    display.replaceChildren(element("div", page, element("h1", {}, text.title), element("p", {}, text.body), actions));
  });
  display.replaceChildren();
}

/** Hands out picture elements and remembers where each is. */
export class Album {
  private readonly held: Map<string, Picture>;
  private readonly used = new Set<string>();
  private readonly shown: { role: string; sha256: string; image: HTMLImageElement }[] = [];
  private readonly decoding: Promise<void>[] = [];
  private places: Placed[] = [];

  constructor(
    pictures: readonly Picture[],
    /** Times that the person had to ask for the pictures again. */
    readonly failures: number,
    /** What went wrong while loading, one entry a failed attempt. */
    readonly faults: readonly Fault[],
  ) {
    this.held = new Map(pictures.map((picture) => [picture.sha256, picture]));
  }

  /** Address of a picture's checked bytes, for places that are not part of the record. */
  url(name: string): string {
    return this.held.get(name)!.url;
  }

  /** Make an element of a picture; `role` says what it is in the record, `alt` what it is to the eye. */
  picture(name: string, role: string, alt: string): HTMLImageElement {
    const image = this.element(name);
    image.alt = alt;
    image.className = "picture";
    image.draggable = false;
    image.dataset.sha256 = name;
    if (Math.max(image.naturalWidth, image.naturalHeight) <= SMALL) image.classList.add("small");
    this.shown.push({ role, sha256: name, image });
    return image;
  }

  /** Resolve when every element that was made can be painted at once. */
  async decoded(): Promise<void> {
    await Promise.all(this.decoding);
  }

  /** Fit small pictures to whole device pixels; call once they are laid out. */
  snap(): void {
    const images = this.shown.filter(({ image }) => image.classList.contains("small")).map(({ image }) => image);
    const widths = images.map((image) => image.getBoundingClientRect().width);
    images.forEach((image, i) => {
      const times = Math.floor((widths[i]! * window.devicePixelRatio) / image.naturalWidth + 0.01);
      if (times < 1) return;
      image.style.width = `${(times * image.naturalWidth) / window.devicePixelRatio}px`;
      image.style.height = `${(times * image.naturalHeight) / window.devicePixelRatio}px`;
      image.parentElement?.classList.add("snapped");
    });
  }

  /** Note where the pictures that can be seen are now. */
  measure(): void {
    const scale = window.devicePixelRatio;
    for (const { role, sha256, image } of this.shown) {
      const { left, top, width, height } = image.getBoundingClientRect();
      if (width === 0 || this.places.some((place) => place.role === role)) continue;
      const at = { x: left + window.scrollX, y: top + window.scrollY, width, height };
      this.places.push({ role, sha256, ...at, device_width: width * scale, device_height: height * scale });
    }
  }

  /** The record of every picture that was seen. */
  get record(): Placed[] {
    return this.places;
  }

  private element(name: string): HTMLImageElement {
    const { image } = this.held.get(name)!;
    if (!this.used.has(name)) {
      this.used.add(name);
      image.removeAttribute("style");
      return image;
    }
    // The same picture a second time in one trial, as on a catch trial whose query is among the references.
    const copy = image.cloneNode() as HTMLImageElement;
    this.decoding.push(copy.decode());
    return copy;
  }
}
