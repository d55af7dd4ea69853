/** Bundle the participant's page, and the replay of one trial, into a folder: hashed names, manifest.json, THIRD_PARTY_LICENSES.txt. */

import { readFileSync, writeFileSync, existsSync, mkdirSync, readdirSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const out = process.argv[2] ?? join(here, "..", "static", "dist");
const LICENCE_NAMES = /^(licen[cs]e|copying|notice)/i;
const MIT = `Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
documentation files (the "Software"), to deal in the Software without restriction, including without limitation the
rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit
persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.`;

/** The packages whose code is in the bundle, by the folder under node_modules that an input came from. */
function packagesOf(inputs) {
  const names = new Set();
  for (const path of inputs) {
    const found = path.replaceAll("\\", "/").match(/^node_modules\/((?:@[^/]+\/)?[^/]+)\//);
    if (found) names.add(found[1]);
  }
  return [...names].sort();
}

/** The notice to carry: the package's own file, else MIT's text under its author's name (some packages ship no file). */
function licenceOf(name) {
  const folder = join(here, "node_modules", name);
  const { version, license, author } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
  const file = readdirSync(folder).find((entry) => LICENCE_NAMES.test(entry));
  if (!file && license !== "MIT") throw new Error(`${name} ${version} carries no licence file and is not under MIT`);
  const holder = typeof author === "string" ? author : (author?.name ?? `the authors of ${name}`);
  const text = file ? readFileSync(join(folder, file), "utf8").trim() : `Copyright (c) ${holder}\n\n${MIT}`;
  return `${name} ${version} (${license})\n\n${text}\n`;
}

const result = await build({
  absWorkingDir: here,
  entryPoints: { index: "src/index.ts", replay: "src/replay.ts" },
  outdir: out,
  entryNames: "[name]-[hash]",
  bundle: true,
  alias: { "random-words": "./src/random-words.ts" },
  minify: true,
  format: "esm",
  target: ["es2020"],
  charset: "utf8",
  legalComments: "linked",
  metafile: true,
  logLevel: "warning",
});

mkdirSync(out, { recursive: true });
const manifest = {};
for (const [path, { entryPoint, cssBundle }] of Object.entries(result.metafile.outputs)) {
  if (!entryPoint) continue;
  const name = basename(entryPoint, ".ts");
  manifest[`${name}.js`] = basename(path);
  if (cssBundle) manifest[`${name}.css`] = basename(cssBundle);
}
for (const name of Object.values(manifest)) writeFileSync(join(out, `${name}.gz`), gzipSync(readFileSync(join(out, name)), { level: 9 }));
if (!manifest["index.js"] || !existsSync(join(out, manifest["index.js"]))) throw new Error("no index.js was built");
const packages = packagesOf(Object.keys(result.metafile.inputs));
const licences = packages.map(licenceOf).join("\n" + "=".repeat(80) + "\n\n");
writeFileSync(join(out, "THIRD_PARTY_LICENSES.txt"), licences);
writeFileSync(join(out, "manifest.json"), JSON.stringify(manifest, null, 1) + "\n");
