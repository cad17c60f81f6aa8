/** Values -> colours. The tables are the engine's: `config.json` holds them as "rrggbb" after "rrggbb". */

import { rint } from "./resample.js";

const FULL = 0.5; // as `xai_deploy/pictures/mixing.py`

/** The colours of a table, RGB. */
export function tableOf(text) {
  return text.match(/.{6}/g).map((color) => color.match(/../g).map((byte) => parseInt(byte, 16)));
}

/** The step of a table for a value in [0,1], or in [-1,1] if it is signed; a value outside takes the nearest end. */
function stepOf(value, table, signed) {
  const low = signed ? -1 : 0;
  return rint(((Math.min(Math.max(value, low), 1) - low) * (table.length - 1)) / (1 - low));
}

/** Values as RGBA bytes: a colour covers more the larger its magnitude, and all that its opacity allows from `FULL` on. */
export function colorize(values, table, signed) {
  const rgba = new Uint8ClampedArray(4 * values.length);
  values.forEach((value, i) => {
    const step = stepOf(value, table, signed);
    const drawn = signed ? (2 * step) / (table.length - 1) - 1 : step / (table.length - 1);
    rgba.set(table[step], 4 * i);
    rgba[4 * i + 3] = rint(255 * Math.min(Math.abs(drawn) / FULL, 1));
  });
  return rgba;
}

/** All colours of a table side by side, one pixel each. */
export function drawColorBar(canvas, table) {
  [canvas.width, canvas.height] = [table.length, 1];
  const rgba = Uint8ClampedArray.from(table.flatMap((color) => [...color, 255]));
  canvas.getContext("2d").putImageData(new ImageData(rgba, table.length), 0, 0);
}
