/** The second picture, which an embedding is compared with. */

import { openPicture } from "./picture.js";
import { prepare } from "./preprocess.js";

const $ = (id) => document.getElementById(id);
const LONGEST = 160; // pixels of its thumbnail

let reference = null; // {name, tensor, embedding: once it is known}

/**
 * @param spec the network's input
 * @param shown gives the picture that is explained now, or null
 * @param onChange called when there is another reference
 * @param onError called with an error if a picture can't be used
 */
export function setUpReference(spec, shown, onChange, onError) {
  let turn = 0;
  $("reference").addEventListener("change", async () => {
    const [file] = $("reference").files;
    $("reference").value = ""; // the same file may be chosen again
    if (!file) return;
    const mine = ++turn;
    try {
      const opened = await openPicture(file);
      if (mine === turn) take(opened, prepare(opened, spec));
      opened.bitmap.close();
    } catch (error) {
      return onError(error);
    }
    if (mine === turn) onChange();
  });
  $("reference-this").addEventListener("click", () => {
    if (!shown()) return;
    turn++;
    take(shown(), shown().tensor);
    onChange();
  });
}

/** {name, tensor, embedding}; null: none is chosen yet. */
export const theReference = () => reference;

function take({ name, bitmap, width, height }, tensor) {
  reference = { name, tensor, embedding: null };
  const canvas = $("reference-picture");
  const zoom = LONGEST / Math.max(width, height);
  [canvas.width, canvas.height] = [width, height].map((side) => Math.max(1, Math.round(side * zoom)));
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  canvas.setAttribute("aria-label", `The reference, ${name}`);
  canvas.hidden = false;
}
