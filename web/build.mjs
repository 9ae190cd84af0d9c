/**
 * Builds dist/: `template.html`, the page without models, into which `fvv page` puts a bundle; and `index.html`, the same
 * with the models of the package. Each is one file that needs no other. The template also goes into the Python package.
 */

import { createHash } from "node:crypto";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { build } from "vite";

const here = dirname(fileURLToPath(import.meta.url));
const root = dirname(here);
const read = (...path) => readFileSync(join(...path));
const text = (...path) => read(...path).toString("utf8");

/** A classic script has no address of its own; nothing is ever fetched from this one. */
const addressless = {
  name: "addressless",
  enforce: "pre",
  transform: (code) => code.replaceAll("import.meta.url", '"https://page.invalid/worker.js"'),
};

/** One script without imports; what it names as files beside itself is given to it by the page. */
async function bundled(entry, format) {
  const result = await build({
    root: here,
    configFile: false,
    logLevel: "warn",
    plugins: [addressless],
    build: {
      write: false,
      target: "es2022",
      assetsInlineLimit: 0,
      rollupOptions: { input: join(here, "src", entry), output: { format, inlineDynamicImports: true } },
    },
  });
  return result.output.find((one) => one.type === "chunk").code;
}

const packed = (bytes) => gzipSync(bytes, { level: 9 }).toString("base64");
const stored = (id, content) => `<script type="text/plain" id="${id}">${content}</script>\n`;
const safe = (code) => code.replaceAll("</script", "<\\/script").replaceAll("<!--", "<\\!--");

const [page, worker] = [await bundled("page/main.ts", "es"), await bundled("worker.ts", "iife")];
const parts =
  stored("fvv-worker", packed(worker)) +
  stored("fvv-wasm", packed(read(here, "node_modules/onnxruntime-web/dist/ort-wasm-simd-threaded.wasm"))) +
  ["b0", "b1000"].map((stem) => stored(`fvv-example-${stem}`, read(here, "example", `${stem}.nii.gz`).toString("base64"))).join("") +
  "<!--BUNDLE-->\n" +
  `<script type="module">${safe(page)}</script>`;
const template = text(here, "src/page/index.html")
  .replace("/*STYLE*/", () => text(here, "src/page/style.css"))
  .replace("<!--PARTS-->", () => parts);

/** As `fvv.analysis.page` does it. */
function withBundle(folder) {
  const manifest = JSON.parse(text(folder, "bundle.json"));
  for (const { file, sha256 } of manifest.models)
    if (createHash("sha256").update(read(folder, file)).digest("hex") !== sha256) throw new Error(`${file} differs from bundle.json`);
  const models = Object.fromEntries(manifest.models.map(({ file }) => [file, read(folder, file).toString("base64")]));
  manifest.models = manifest.models.map(({ file, sha256 }) => ({ file, sha256 }));
  const version = /__version__ = "(.*)"/.exec(text(root, "src/fvv/__init__.py"))[1];
  const content = JSON.stringify({ software: `fvv ${version}`, manifest, models }).replaceAll("<", "\\u003c");
  return template.replace("<!--BUNDLE-->", () => `<script type="application/json" id="fvv-bundle">${content}</script>`);
}

mkdirSync(join(here, "dist"), { recursive: true });
mkdirSync(join(root, "src/fvv/page"), { recursive: true });
writeFileSync(join(here, "dist/template.html"), template);
writeFileSync(join(root, "src/fvv/page/template.html.gz"), gzipSync(template, { level: 9 }));
const models = join(root, "src/fvv/models");
const whole = withBundle(join(models, readdirSync(models).find((name) => readdirSync(join(models, name)).includes("bundle.json"))));
writeFileSync(join(here, "dist/index.html"), whole);
console.log(`dist/index.html: ${(whole.length / 1e6).toFixed(1)} MB, the template in it: ${(template.length / 1e6).toFixed(1)} MB`);
