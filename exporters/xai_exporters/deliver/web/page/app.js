/**
 * The page: a picture, a method and a class -> the map over the picture, the prediction and the time.
 *
 * For tests and for the curious, `window.xai.last` is the last explanation:
 * {count, predicted, likelihoods, seconds, loading: seconds until the file was ready, ...main, other, difference}, where main and
 * other (null if nothing is compared) are {method, target, map: {data, height, width} as the file gave it, raw: the same before
 * min-max, heatmap: the map at the network's input size, shown: {data, height, width} whose colours are drawn}. `difference` is
 * {raw, shown} for two classes, else null. `scores` are what the file gave, `about` the region, direction or reference asked about.
 */

import { setUpCamera } from "./camera.js";
import { PREDICTED, best, classNames, likelihoods } from "./classes.js";
import { tableOf } from "./colors.js";
import { detect, detectionAt } from "./detections.js";
import { drawn, heatmapOf } from "./heatmap.js";
import { Panel } from "./panel.js";
import { PictureError, openPicture } from "./picture.js";
import { boxCorners } from "./places.js";
import { inPicture } from "./pointer.js";
import { setUpPrediction, showPrediction, shownOf } from "./prediction.js";
import { geometry, prepare, seenPart } from "./preprocess.js";
import { ClassError, comparison, least, method, pick, rename, setUpQuestion, targetClass } from "./question.js";
import { setUpReference } from "./reference.js";
import { lieOn, otherRegion, setUpRegions, theRegion } from "./region.js";
import { ask, giveUp } from "./runner.js";
import { setUpSamples } from "./samples.js";
import { setUpSaveMenu } from "./savemenu.js";
import { labelOf, rowFed, subjectOf } from "./subject.js";

const $ = (id) => document.getElementById(id);

let config, names, tables; // of the site
let chosen = 0; // how many pictures so far; the one chosen last counts
let picture = null; // {name, width, height, rows, bitmap, tensor}
let panels = []; // what is shown
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
  names = config.explained.kind === "boxes" ? [] : classNames(config.labels); // the detections of each picture have names of their own
  tables = { positive: tableOf(config.colors.positive), signed: tableOf(config.colors.signed) };
  document.title = `${config.title}: explain a picture`;
  $("title").textContent = config.title;
  $("about").textContent =
    `Everything runs on this device, with ${config.runtime}; nothing is sent anywhere. ` +
    `The network's decision is explained at the layer “${config.layer}”. Written by ${config.producer}.`;
  setUpRegions(update, draw, unusable);
  setUpQuestion(config, names, update);
  setUpPrediction(config, choose);
  setUpReference(config.input, () => picture, update, unusable);
  setUpSamples(config.samples, take);
  setUpCamera({ onPicture: (taken) => take(() => taken), onError: fail });
  setUpSaveMenu(() => ({ config, panels, last: window.xai.last }), fail);
  listen();
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
  $("predicted").addEventListener("click", () => choose(null));
  $("maps").classList.toggle("tappable", config.explained.kind === "boxes");
  $("maps").addEventListener("click", (event) => {
    if (!picture?.found || event.target.getAttribute("role") !== "img") return;
    const number = detectionAt(inPicture(event, event.target, picture), picture.found);
    if (number !== null) choose(number);
  });
  $("opacity").addEventListener("input", draw);
  $("original").addEventListener("click", () => {
    $("original").setAttribute("aria-pressed", $("original").getAttribute("aria-pressed") === "false");
    draw();
  });
}

function choose(number) {
  if (pick(number)) update();
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
    if (picture !== panels[0]?.shown.source) picture?.bitmap.close();
    picture = opened;
  } catch (error) {
    opened?.bitmap.close();
    if (turn !== chosen) return;
    say(picture ? "The picture shown is the one before." : "No picture yet.");
    return unusable(error);
  }
  lieOn(picture);
  if (config.explained.kind === "boxes") pick(null);
  update();
}

function unusable(error) {
  fail(error instanceof PictureError ? error.message : `The picture can't be used (${error.message}).`);
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
      await explain(picture);
    } catch (error) {
      say("");
      if (error instanceof ClassError) {
        if (panels[0]?.shown.source !== picture) showAlone(picture); // what is asked for is to be chosen on it
        fail(error.message);
      } else {
        giveUp();
        if (!again) fail(`The explanation failed: ${error.message}`);
      }
    }
    $("loading").hidden = true;
  }
  running = false;
  $("main").setAttribute("aria-busy", "false");
}

async function explain(source) {
  const asked = performance.now();
  if (config.explained.kind === "boxes") await find(source);
  const [wanted, compared] = [targetClass(), comparison()];
  const subjectIn = (region, index) =>
    subjectOf(config, names, source, index, (of, number, more) => run(of, method(), number, compared, more), region);
  const subject = await subjectIn(theRegion(), wanted);
  if (!subject) return say(`“${source.name}” is read. Choose a reference, which it is compared with.`);
  const runs = (how, index) => run(source, how, subject.sent(index), compared, subject.more(index));
  const answer = await runs(method(), subject.index);
  if (source !== picture) return; // another one came meanwhile, and is next
  const loading = (performance.now() - asked) / 1000 - answer.seconds;
  const predicted = ["classes", "regions"].includes(config.explained.kind) ? best(answer.scores, 1)[0] : null;
  const shares = likelihoods(answer.scores, config.apply);
  const main = seenAs(answer, subject.index === PREDICTED ? predicted : subject.index, subject);
  const { target } = main;
  let other = null;
  if (compared?.method) other = seenAs(await runs(compared.method, target), target, subject);
  if (compared?.region) {
    const second = await subjectIn(otherRegion(), compared.class === PREDICTED ? target : compared.class);
    if (second.name(second.index) === main.said) throw new ClassError(`“${main.said}” can't be compared with itself. Choose another region or class.`);
    other = seenAs(await run(source, method(), second.index, compared, second.more(second.index)), second.index, second);
  } else if (compared?.class !== undefined) {
    const likeliest = listed(answer.scores, target, 2).find((number) => number !== target);
    const second = compared.class === PREDICTED ? likeliest : compared.class;
    if (second === target || second === undefined) throw new ClassError(`“${names[target]}” can't be compared with itself. Choose another class.`);
    other = seenAs(await runs(method(), second), second, subject);
  }
  if (source !== picture) return;
  const difference = other && !compared.method ? differenceOf(main, other) : null;
  show(source, [main, other, difference].filter(Boolean));
  const classes = listed(answer.scores, target, shownOf(config.explained));
  showPrediction({ classes, shares, names, apply: config.apply, target, choosable: method().target });
  const milliseconds = Math.max(1, Math.round(1000 * answer.seconds));
  const said = `${main.method} for “${main.said}” (${main.amount})`;
  $("time").textContent =
    `${said}: prediction and map in ${milliseconds} ms` +
    (answer.first ? ", the first time with this method; again it is faster." : ".");
  const beside = other ? `, beside ${other.method} for “${other.said}”` : "";
  say(`Done: ${said}${beside}.`);
  const count = (window.xai.last?.count ?? 0) + 1;
  const { seconds } = answer;
  window.xai.last = { count, predicted, likelihoods: shares, seconds, loading, ...main, other, difference };
}

/** Find the detections of a picture, which are what can be chosen in it. */
async function find(source) {
  const lowest = least();
  source.detector ??= (await run(source, method(), PREDICTED, null, rowFed(config.names, PREDICTED))).rows;
  source.found = detect(source.detector, config.explained, { ...config.explained.limits, score: lowest }, source, config.input);
  names = source.found.map(({ index }, number) => `box ${number} (${labelOf(config.labels, index)})`);
  rename(names);
  if (names.length) return;
  throw new ClassError(`The network finds nothing in this picture with a probability of ${+(100 * lowest).toFixed(2)} % or more. Lower it.`);
}

/** The classes that are listed: the likeliest ones; of numbers some in their order, the one explained among them. */
function listed(scores, target, count) {
  if (config.explained.kind === "similarity") return [];
  if (config.explained.kind === "boxes") {
    const first = best(scores, count);
    return first.includes(target) ? first : [...first.slice(0, count - 1), target];
  }
  if (config.explained.kind !== "numbers") return best(scores, count);
  const first = Math.max(0, Math.min(target - 1, scores.length - count));
  return Array.from({ length: Math.min(count, scores.length) }, (_, i) => first + i);
}

/** Run a method for a class or number, with further inputs. */
async function run(source, { name, file, exactly, target: takesTarget, signed, at_pixels: atPixels }, target, compared, more) {
  say(`Running ${name}.`);
  const { data, dims } = source.tensor;
  const question = {
    file,
    exactly,
    keep: compared?.method ? 2 : 1,
    bytes: config.bytes,
    input: data,
    dims,
    dtype: config.input.dtype,
    names: { ...config.names, target: takesTarget && config.explained.kind !== "similarity" ? config.names.target : null },
    target,
    more: takesTarget ? more : [],
  };
  const answer = await ask(question, (share) => {
    if ($("loading").hidden) say("Loading the network.");
    $("loading").hidden = false;
    $("loading").value = share;
  });
  const found = { ...answer, method: name, signed, atPixels };
  return config.explained.kind === "boxes" ? { ...found, rows: answer.scores, scores: (source.found ?? []).map(({ score }) => score) } : found;
}

/** An answer as it is shown: a signed map from -1 to 1 with 0 in the middle, any other from 0 to 1. */
function seenAs({ method, map, raw, scores, signed, atPixels }, target, subject) {
  const { height, width } = config.input;
  const heatmap = heatmapOf(map.data, map.height, map.width, height, width);
  const amount = subject.amount(target, scores, likelihoods(scores, config.apply));
  const { about } = subject;
  return { method, target, said: subject.name(target), amount, about, scores, map, raw, heatmap, signed, atPixels, shown: drawn(heatmap, raw, signed, atPixels) };
}

/** The map of one class minus that of another. */
function differenceOf(main, other) {
  const { method, target, said, heatmap, atPixels } = main;
  const raw = { ...main.raw, data: main.raw.data.map((value, i) => value - other.raw.data[i]) };
  return { method, target, said, versus: other.target, against: other.said, raw, signed: true, shown: drawn(heatmap, raw, true, atPixels) };
}

/** Put maps over the picture, each in its panel. */
function show(source, maps) {
  const before = panels[0]?.shown.source;
  if (before !== source) before?.bitmap.close();
  const part = seenPart(source, config.input);
  const forIt = ["classes", "regions"].includes(config.explained.kind) ? "for the class" : "for it";
  panels = maps.map(({ method, target, versus, said: one, amount, against = null, signed, shown = null }, i) => {
    const panel = panels[i] ?? new Panel(i ? `canvas-${i + 1}` : "canvas");
    panel.show({
      source,
      geometry: geometry(source.height, source.width, config.input),
      part,
      values: shown,
      targets: [target, versus],
      signed,
      table: signed ? tables.signed : tables.positive,
      title: against === null ? `${method}: ${one}, ${amount}` : `${method}: ${one} minus ${against}`,
      ends: against !== null ? [against, one] : signed ? ["against", forIt] : ["least", "most evidence"],
      label: `The picture under the map of ${method} for ${one}${against === null ? "" : ` minus that for ${against}`}`,
    });
    return panel;
  });
  // figures that are there stay in place: a click is lost if its element leaves the page between press and release
  const { children } = $("maps");
  for (const figure of [...children].slice(panels.length)) figure.remove();
  $("maps").append(...panels.slice(children.length).map(({ figure }) => figure));
  $("maps").hidden = false;
  $("empty").hidden = true;
  $("frame-hint").hidden = part.height === source.height && part.width === source.width;
  $("original").disabled = $("save").disabled = false;
  draw();
}

/** Put the picture there without a map. */
function showAlone(source) {
  show(source, [{ method: "no map", said: source.name, amount: "as it is", signed: false }]);
  $("save").disabled = $("original").disabled = true;
}

function draw() {
  $("opacity-value").textContent = `${$("opacity").value} %`;
  const original = $("original").getAttribute("aria-pressed") === "true";
  for (const panel of panels) panel.draw(original ? null : $("opacity").value / 100, outlinesOn(panel.shown));
}

/** The regions as they are drawn now; or all detections, those that a panel explains last and thick. */
function outlinesOn({ source, targets }) {
  if (config.explained.kind === "regions") return [theRegion(), otherRegion()].map(({ outline }) => outline).filter(Boolean).map((corners) => ({ corners }));
  const outlines = (source.found ?? []).map(({ box: [left, top, right, bottom] }, number) => ({
    corners: boxCorners({ x: left, y: top, width: right - left, height: bottom - top }),
    thick: targets.includes(number),
  }));
  return outlines.sort((one, other) => one.thick - other.thick);
}

function say(text) {
  $("status").textContent = text;
}

function fail(text) {
  $("error").textContent = text;
}

start();
