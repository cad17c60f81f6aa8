/** The controls that say what is explained: method, class or number, and what it is compared with. */

import { PREDICTED, findClass } from "./classes.js";
import { compareRegions } from "./region.js";

const $ = (id) => document.getElementById(id);

let config, names; // of the site
let picked = null; // the class whose button was pressed, until the field changes

/** What the page says by the kind of scores. */
const WORDS = {
  classes: ["Class", "See which parts of a picture speak for a class."],
  regions: ["Class", "See which parts of a picture speak for a class in a region."],
  numbers: ["Output", "See which parts of a picture make a number larger or smaller."],
  similarity: ["Class", "See which parts of a picture make it like another one."],
  boxes: ["Detection", "See which parts of a picture speak for an object that the network finds in it."],
};

const HINTS = {
  numbers: "Type a part of its name, or its number.",
  boxes: "Press it on the picture, or type a part of its name, or its number; empty: the best one.",
};

/** What is wrong with a class that was typed. */
export class ClassError extends Error {}

/** @param onChange called when something else is to be explained */
export function setUpQuestion(site, classNames, onChange) {
  [config, names] = [site, classNames];
  for (const { name } of config.methods) {
    $("method").append(new Option(name, name));
    $("compare-methods").append(new Option(name, `method ${name}`));
  }
  const { kind } = config.explained;
  const [one, lead] = WORDS[kind];
  [$("class-label").textContent, $("lead").textContent] = [one, lead];
  [$("other-label").textContent, $("compare-class").textContent] = [`Other ${one.toLowerCase()}`, `another ${one.toLowerCase()}`];
  $("region-field").hidden = $("compare-region").hidden = kind !== "regions";
  $("direction-field").hidden = kind !== "numbers";
  $("reference-field").hidden = kind !== "similarity";
  $("class-field").hidden = kind === "similarity";
  $("predicted").hidden = kind === "numbers";
  if (kind === "numbers") {
    [$("class").value, $("class").placeholder] = [names[0], ""];
    $("direction").addEventListener("change", onChange);
  }
  if (kind === "boxes") {
    [$("class").placeholder, $("predicted").textContent, $("least").value] = ["the best one", "Best", 100 * config.explained.limits.score];
    $("least").addEventListener("change", onChange);
  }
  $("least-field").hidden = kind !== "boxes";
  rename(names);
  methodChanged();
  $("method").disabled = $("compare").disabled = false;
  $("method").addEventListener("change", () => {
    methodChanged();
    onChange();
  });
  $("class").addEventListener("change", () => {
    picked = null;
    onChange();
  });
  $("compare").addEventListener("change", () => {
    compareChanged();
    onChange();
  });
  $("other").addEventListener("change", onChange);
}

/** What can be chosen is called otherwise now: the detections of another picture. */
export function rename(newNames) {
  names = newNames;
  $("classes").replaceChildren(...names.map((name) => Object.assign(document.createElement("option"), { value: name })));
  if (picked !== null && picked >= names.length) pick(null);
}

/** The lowest probability of a detection, 0 to 1. @throws {ClassError} */
export function least() {
  const share = Number($("least").value) / 100;
  if ($("least").value !== "" && share >= 0 && share <= 1) return share;
  throw new ClassError("The lowest probability is a number from 0 to 100.");
}

/** The method chosen: {name, file, target: whether it takes a class, signed}. */
export const method = () => config.methods.find(({ name }) => name === $("method").value);

/** Choose a class by its number, since names may differ in case alone; null: the predicted one. */
export function pick(number) {
  if ($("class").disabled) return false;
  $("class").value = names[number] ?? "";
  $("class").setAttribute("aria-invalid", false);
  picked = number;
  return true;
}

/** The class chosen, or PREDICTED. @throws {ClassError} */
export function targetClass() {
  if (!method().target || config.explained.kind === "similarity") return PREDICTED;
  const number = picked ?? typed($("class"));
  if (number !== PREDICTED || config.explained.kind !== "numbers") return number;
  throw new ClassError("Choose an output: none of the numbers is a predicted one.");
}

/** "up" or "down". */
export const direction = () => $("direction").value;

/**
 * What the map is compared with: null, {method}, {class: number, or PREDICTED for the next likely one}, or {region: true, class: number,
 * or PREDICTED for the same one}.
 * @throws {ClassError}
 */
export function comparison() {
  const { value } = $("compare");
  if (value === "class") return { class: typed($("other")) };
  if (value === "region") return { region: true, class: typed($("other")) };
  return value ? { method: config.methods.find(({ name }) => `method ${name}` === value) } : null;
}

function typed(field) {
  const number = findClass(field.value, names);
  field.setAttribute("aria-invalid", number === null);
  if (number !== null) return number;
  const { kind } = config.explained;
  const empty = kind === "numbers" && field === $("class") ? "" : ", or leave the field empty"; // no number is a predicted one
  throw new ClassError(`No ${WORDS[kind][0].toLowerCase()}, or more than one, fits “${field.value}”. Pick one from the list${empty}.`);
}

function methodChanged() {
  const fixed = !method().target;
  $("class").disabled = $("predicted").disabled = $("compare-class").disabled = fixed;
  if (config.explained.kind === "similarity") $("compare-class").disabled = true;
  const { kind } = config.explained;
  if (fixed) $("class-hint").textContent = `This file always explains the ${kind === "boxes" ? "best detection" : "predicted class"}.`;
  else $("class-hint").textContent = HINTS[kind] ?? "Type a part of its name, or its number; empty: the predicted class.";
  for (const option of $("compare-methods").children) option.disabled = option.value === `method ${method().name}`;
  if ($("compare").selectedOptions[0].disabled) $("compare").value = "";
  compareChanged();
  if (!fixed) return;
  $("class").value = "";
  picked = null;
}

function compareChanged() {
  const { value } = $("compare");
  $("other-field").hidden = !["class", "region"].includes(value);
  $("other").placeholder = value === "region" ? "the same one" : config.explained.kind === "numbers" ? "the next one" : "the next likely one";
  compareRegions(value === "region");
}
