/**
 * The page: a picture, a method and a class -> the map over the picture, the prediction and the time.
 *
 * For tests and for the curious, `window.xai.last` is the last explanation:
 * {count, method, target, predicted, likelihoods, map: {data, height, width} as the file gave it,
 *  heatmap: the same at the network's input size, seconds, loading: seconds until the file was ready}.
 */

import { setUpCamera } from "./camera.js";
import { PREDICTED, best, classNames, findClass, likelihoods } from "./classes.js";
import { colourise, heatmapOf } from "./heatmap.js";
import { PictureError, openPicture } from "./picture.js";
import { prepare, seenPart } from "./preprocess.js";

const SHOWN = 5; // predictions
const [SMALLEST, LARGEST] = [512, 1024]; // longest side of the shown picture, in pixels

const $ = (id) => document.getElementById(id);
const percent = (share) => `${(100 * share).toFixed(1)} %`;

let config, names; // of the site
let chosen = 0; // how many pictures so far; the one chosen last counts
let picture = null; // {width, height, rows, bitmap, tensor}
let shown = null; // {source, part, map, heat}: what the canvas holds
let worker = null;
let picked = null; // the class whose button was pressed, until the field changes
let running = false;
let again = false;

window.xai = { last: null };

async function start() {
  try {
    const answer = await fetch("config.json", { cache: "no-cache" });
    if (!answer.ok) throw new Error(`config.json: ${answer.status}`);
    config = await answer.json();
  } catch (error) {
    say("");
    return fail(`The page is incomplete (${error.message}). Copy the whole folder to the server.`);
  }
  names = classNames(config.labels);
  document.title = `${config.name}: explain a picture`;
  $("title").textContent = config.name;
  $("about").textContent =
    `Everything runs on this device, with ${config.runtime}; nothing is sent anywhere. ` +
    `The network's decision is explained at the layer “${config.layer}”. Written by ${config.producer}.`;
  for (const { name } of config.methods) $("method").append(new Option(name, name));
  $("classes").append(...names.map((name) => Object.assign(document.createElement("option"), { value: name })));
  for (let i = 0; i < Math.min(SHOWN, config.classes); i++) $("prediction").append(row());
  listen();
  methodChanged();
  $("method").disabled = false;
  say("Ready. Choose a picture.");
}

function listen() {
  $("file").addEventListener("change", () => {
    const [file] = $("file").files;
    $("file").value = ""; // the same file may be chosen again
    if (file) take(() => openPicture(file));
  });
  for (const kind of ["dragover", "dragleave", "drop"]) {
    document.addEventListener(kind, (event) => {
      event.preventDefault(); // a browser would leave the page for the file
      $("drop").classList.toggle("over", kind === "dragover");
    });
  }
  document.addEventListener("drop", ({ dataTransfer }) => {
    const [file] = dataTransfer.files;
    if (file) take(() => openPicture(file));
    else fail("That is no file. Drop a picture's file, or choose one.");
  });
  setUpCamera({ onPicture: (taken) => take(() => taken), onError: fail });
  $("method").addEventListener("change", () => {
    methodChanged();
    update();
  });
  $("class").addEventListener("change", () => {
    picked = null;
    update();
  });
  $("predicted").addEventListener("click", () => pick(null));
  $("opacity").addEventListener("input", draw);
}

const method = () => config.methods.find(({ name }) => name === $("method").value);

function methodChanged() {
  const fixed = !method().target;
  $("class").disabled = $("predicted").disabled = fixed;
  $("class-hint").textContent = fixed
    ? "This file always explains the predicted class."
    : "Type a part of its name, or its number; empty: the predicted class.";
  if (!fixed) return;
  $("class").value = "";
  picked = null;
}

/** Explain a class by its number, since names may differ in case alone; null: the predicted one. */
function pick(number) {
  if ($("class").disabled) return;
  $("class").value = names[number] ?? "";
  picked = number;
  update();
}

/** Take a new picture in, and explain it. */
async function take(open) {
  const turn = ++chosen;
  fail("");
  say("Reading the picture.");
  let opened;
  try {
    opened = await open();
    if (turn !== chosen) return opened.bitmap.close();
    opened.tensor = prepare(opened, config.input);
    if (picture !== shown?.source) picture?.bitmap.close();
    picture = opened;
  } catch (error) {
    opened?.bitmap.close();
    if (turn !== chosen) return;
    say(picture ? "The picture shown is the one before." : "No picture yet.");
    return fail(error instanceof PictureError ? error.message : `The picture can't be used (${error.message}).`);
  }
  update();
}

/** Explain what is chosen now; what changes meanwhile is explained next. */
async function update() {
  again = true;
  if (!picture) return;
  fail("");
  if (running) return;
  running = true;
  $("main").setAttribute("aria-busy", "true");
  while (again) {
    again = false;
    try {
      await explain(picture, method());
    } catch (error) {
      worker?.terminate(); // its memory may be spoilt
      worker = null;
      say("");
      if (!again) fail(`The explanation failed: ${error.message}`);
    }
  }
  running = false;
  $("main").setAttribute("aria-busy", "false");
}

async function explain(source, { name, file, target: takesTarget }) {
  const wanted = takesTarget ? (picked ?? findClass($("class").value, names)) : PREDICTED;
  $("class").setAttribute("aria-invalid", wanted === null);
  if (wanted === null) {
    say("");
    return fail(`No class, or more than one, fits “${$("class").value}”. Pick one from the list, or leave the field empty.`);
  }
  say(`Running ${name}.`);
  const { data, dims } = source.tensor;
  const tensorNames = { ...config.names, target: takesTarget ? config.names.target : null };
  const asked = performance.now();
  const answer = await ask({ file, input: data, dims, dtype: config.input.dtype, names: tensorNames, target: wanted });
  if (source !== picture) return; // another one came meanwhile, and is next
  const [h, w] = answer.size;
  const heat = heatmapOf(answer.map, h, w, config.input.height, config.input.width);
  const [predicted] = best(answer.scores, 1);
  const target = wanted === PREDICTED ? predicted : wanted;
  const shares = likelihoods(answer.scores, config.apply);
  if (shown?.source !== source) shown?.source.bitmap.close();
  shown = { source, part: seenPart(source, config.input), map: heat, heat: null };
  draw();
  showPrediction(answer.scores, shares, target, takesTarget);
  const milliseconds = Math.max(1, Math.round(1000 * answer.seconds));
  $("time").textContent =
    `${name} for “${names[target]}” (${likely(shares[target])}): prediction and map in ${milliseconds} ms` +
    (answer.first ? ", the first time with this method; again it is faster." : ".");
  $("canvas").setAttribute("aria-label", `The picture under the map of ${name} for ${names[target]}`);
  say(`Done: ${name} for “${names[target]}”.`);
  window.xai.last = {
    count: (window.xai.last?.count ?? 0) + 1,
    method: name,
    target,
    predicted,
    likelihoods: shares,
    map: { data: answer.map, height: h, width: w },
    heatmap: heat,
    seconds: answer.seconds,
    loading: (performance.now() - asked) / 1000 - answer.seconds,
  };
}

/** Ask the worker, one question at a time. */
function ask(question) {
  worker ??= newWorker();
  return new Promise((resolve, reject) => {
    worker.onmessage = ({ data }) => {
      if (data.loading) say("Loading the network.");
      else if (data.error) reject(new Error(data.error));
      else resolve(data);
    };
    worker.onerror = (event) => reject(new Error(event.message || "the runtime can't be loaded"));
    worker.postMessage(question);
  });
}

/** Made from a blob, a worker keeps to this page's Content-Security-Policy; one from the server would have none. */
function newWorker() {
  const script = `import ${JSON.stringify(new URL("worker.js", import.meta.url).href)};`;
  const url = URL.createObjectURL(new Blob([script], { type: "text/javascript" }));
  const made = new Worker(url, { type: "module" });
  for (const kind of ["message", "error"]) made.addEventListener(kind, () => URL.revokeObjectURL(url), { once: true });
  return made;
}

/** The picture as far as the network sees it, the map over it; the map's colours are made once. */
function draw() {
  $("opacity-value").textContent = `${$("opacity").value} %`;
  if (!shown) return;
  const { source, part } = shown;
  const longest = Math.max(part.height, part.width);
  const zoom = Math.min(Math.max(longest, SMALLEST), LARGEST) / longest;
  const [height, width] = [part.height, part.width].map((side) => Math.max(1, Math.round(side * zoom)));
  const canvas = $("canvas");
  if (!shown.heat) {
    shown.heat = new OffscreenCanvas(width, height);
    shown.heat.getContext("2d").putImageData(new ImageData(colourise(shown.map, height, width), width), 0, 0);
    [canvas.width, canvas.height] = [width, height];
    $("figure").hidden = false;
  }
  const context = canvas.getContext("2d");
  context.globalAlpha = 1;
  context.clearRect(0, 0, width, height);
  context.imageSmoothingEnabled = zoom <= 1; // the pixels of a tiny picture stay what they are
  context.imageSmoothingQuality = "high";
  context.drawImage(source.bitmap, part.left, part.top, part.width, part.height, 0, 0, width, height);
  context.globalAlpha = $("opacity").value / 100;
  context.drawImage(shown.heat, 0, 0);
}

/** One line of the prediction: a button that explains its class. */
function row() {
  const item = document.createElement("li");
  const button = Object.assign(document.createElement("button"), { type: "button" });
  const bar = Object.assign(document.createElement("progress"), { max: 1, hidden: config.apply === "raw" });
  bar.setAttribute("aria-hidden", "true");
  button.append(document.createElement("span"), document.createElement("span"), bar);
  button.addEventListener("click", () => pick(Number(button.dataset.number)));
  item.append(button);
  return item;
}

const likely = (share) => (config.apply === "raw" ? `score ${share.toPrecision(4)}` : percent(share));

function showPrediction(scores, shares, target, choosable) {
  const classes = best(scores, SHOWN);
  $("prediction").querySelectorAll("button").forEach((button, i) => {
    const [label, number, bar] = button.children;
    label.textContent = names[classes[i]];
    button.dataset.number = classes[i];
    number.textContent = likely(shares[classes[i]]);
    if (config.apply !== "raw") bar.value = Math.min(Math.max(shares[classes[i]], 0), 1);
    button.disabled = !choosable;
    button.setAttribute("aria-pressed", classes[i] === target);
  });
  $("result").hidden = false;
}

function say(text) {
  $("status").textContent = text;
}

function fail(text) {
  $("error").textContent = text;
}

start();
