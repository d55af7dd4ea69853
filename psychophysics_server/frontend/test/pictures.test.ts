/** Loading pictures: at most six at once, retries, one request an address, and the window. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { Pictures } from "../src/pictures";
import { boldParts, paragraphs } from "../src/prose";

const noWait = async (): Promise<void> => undefined;

test("never more than six requests fly at once", async () => {
  let flying = 0;
  let most = 0;
  const pictures = new Pictures(async (url) => {
    most = Math.max(most, ++flying);
    await new Promise(setImmediate);
    flying -= 1;
    return url;
  }, undefined, noWait);
  const urls = Array.from({ length: 40 }, (_, i) => `/${i}.png`);
  assert.deepEqual(await Promise.all(urls.map((url) => pictures.get(url))), urls);
  assert.equal(most, 6);
});

test("a picture is asked for once however often it is wanted", async () => {
  let asked = 0;
  const pictures = new Pictures(async (url) => (asked++, url), undefined, noWait);
  await Promise.all([pictures.get("/a"), pictures.get("/a"), pictures.get("/a")]);
  assert.equal(asked, 1);
});

test("a failed load is tried four times, then reported, and asking again starts anew", async () => {
  let asked = 0;
  const pictures = new Pictures(async (url) => (++asked <= 5 ? Promise.reject(new Error("decode")) : url), undefined, noWait);
  await assert.rejects(pictures.get("/a"), /decode/);
  assert.equal(asked, 4);
  assert.equal(await pictures.get("/a"), "/a");
  assert.equal(asked, 6);
});

test("the window loads what is wanted and forgets what is not", async () => {
  const asked: string[] = [];
  const pictures = new Pictures(async (url) => (asked.push(url), url), undefined, noWait);
  pictures.window(["/a", "/b"]);
  pictures.window(["/b", "/c"]);
  await Promise.all([pictures.get("/b"), pictures.get("/c")]);
  await pictures.get("/a");
  assert.deepEqual(asked, ["/a", "/b", "/c", "/a"]);
});

test("texts are paragraphs with bold and never markup", () => {
  assert.deepEqual(paragraphs("One\nline.\n\n Two. \n\n\n"), ["One line.", "Two."]);
  assert.deepEqual(boldParts("a **b** <i>c</i>"), [
    { text: "a ", bold: false },
    { text: "b", bold: true },
    { text: " <i>c</i>", bold: false },
  ]);
});
