/** The regions that are explained in a segmentation: chosen from a list, drawn on the picture, typed, or a mask's file. */

import { openPicture } from "./picture.js";
import { boxCorners, cornersOf, inside, maskOf, onOneLine } from "./places.js";
import { inPicture } from "./pointer.js";

const $ = (id) => document.getElementById(id);
const FIELDS = { x: "box-x", y: "box-y", width: "box-width", height: "box-height" };

let picture = null; // the one that the regions lie on
let main, other; // the controls of the region, and of the one that it is compared with
let active; // the one whose controls were used last: the pointer draws it

/**
 * @param onChange called when another region is to be explained
 * @param onDraw called while one is drawn
 * @param onError called with an error if a mask can't be used
 */
export function setUpRegions(onChange, onDraw, onError) {
  $("other-region-place").replaceWith(copied($("region-field")));
  [main, other] = ["", "other-"].map((prefix) => new Region(prefix, onChange, onError));
  active = main;
  $("maps").addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || event.target.getAttribute("role") !== "img") return;
    if (!active.begin(whole(event))) return;
    event.target.setPointerCapture(event.pointerId);
    event.preventDefault(); // no text is selected
  });
  $("maps").addEventListener("pointermove", (event) => active.move(whole(event)) && onDraw());
  for (const kind of ["pointerup", "pointercancel"]) {
    $("maps").addEventListener(kind, () => {
      const drawn = active.end(kind === "pointerup");
      if (drawn === true) onChange();
      if (drawn === false) onDraw();
    });
  }
}

/** The region that is explained, and the one that it is compared with. */
export const theRegion = () => main;
export const otherRegion = () => other;

/** Show the controls of the region that is compared, or hide them. */
export function compareRegions(yes) {
  other.field.hidden = !yes;
  if (!yes && active === other) active = main;
  showDrawable();
}

/** Another picture: boxes that do not fit in it become the middle of it; corners and masks of another one are gone. */
export function lieOn(source) {
  const before = picture;
  picture = source;
  for (const region of [main, other]) region.lieOn(before);
}

class Region {
  /** @param prefix of its controls' ids */
  constructor(prefix, onChange, onError) {
    this.$ = (id) => $(prefix + id);
    this.field = this.$("region-field");
    this.from = null; // where the pointer began: {x, y, before: the box until then}
    this.mask = null; // {name, width, height, row}
    this.field.addEventListener("focusin", () => this.activate());
    this.$("region").addEventListener("change", () => {
      this.activate();
      for (const kind of ["box", "polygon", "mask"]) this.$(`${kind}-field`).hidden = this.kind !== kind;
      onChange();
    });
    for (const id of [...Object.values(FIELDS), "polygon"]) this.$(id).addEventListener("change", onChange);
    this.$("polygon-clear").addEventListener("click", () => {
      this.$("polygon").value = "";
      onChange();
    });
    this.$("mask").addEventListener("change", async () => {
      const [file] = this.$("mask").files;
      this.$("mask").value = ""; // the same file may be chosen again
      if (!file) return;
      const on = picture;
      try {
        const opened = await openPicture(file);
        try {
          const mask = { ...maskOf(opened), name: opened.name };
          if (on !== picture) return; // it was of the picture before
          this.mask = mask;
        } finally {
          opened.bitmap.close();
        }
        this.$("mask-name").textContent = this.mask.name;
      } catch (error) {
        return onError(error);
      }
      onChange();
    });
  }

  /** "predicted", "box", "polygon", "mask" or "all". */
  get kind() {
    return this.$("region").value;
  }

  /** {x, y, width, height} in pixels of the picture, as the fields say. */
  get box() {
    return Object.fromEntries(Object.entries(FIELDS).map(([key, id]) => [key, Number(this.$(id).value)]));
  }

  /** The corners that are drawn as an outline; null: none are. */
  get outline() {
    if (this.field.hidden) return null;
    if (this.kind === "polygon") return cornersOf(this.$("polygon").value);
    return this.kind === "box" ? boxCorners(this.box) : null;
  }

  /**
   * A box, a polygon or a mask: {said, row: see `share`}.
   * @throws {Error} it is none; the message is for people
   */
  laid() {
    if (this.kind === "mask") {
      if (!this.mask) throw new Error("Choose a mask: a picture of the same size, the region white on black.");
      const { width, height } = this.mask;
      if (width === picture.width && height === picture.height) return { said: `the mask ${this.mask.name}`, row: this.mask.row };
      throw new Error(`The mask has ${width} x ${height} pixels, its picture ${picture.width} x ${picture.height}. Choose a mask of this picture.`);
    }
    if (this.kind === "polygon") {
      const corners = cornersOf(this.$("polygon").value);
      this.$("polygon").setAttribute("aria-invalid", !corners);
      if (!corners) throw new Error("Corners are written x,y x,y x,y in pixels of the picture.");
      if (corners.length < 3) throw new Error(`A polygon has at least three corners, and this one ${corners.length}. Press on the picture for each.`);
      if (onOneLine(corners)) throw new Error("The polygon is empty: its corners lie on one line. Press on the picture beside it.");
      return { said: `the polygon ${corners.map(([x, y]) => `${x},${y}`).join(" ")}`, row: inside(corners, picture) };
    }
    const { x, y, width, height } = this.box;
    if (["x", "y"].some((key) => this.$(FIELDS[key]).value === "")) throw new Error("The box has no place. Draw it on the picture, or type its left and its top edge.");
    if (!(width > 0 && height > 0)) throw new Error("The box is empty. Draw it on the picture, or type a width and a height above 0.");
    return { said: `the box ${x},${y},${width},${height}`, row: inside(boxCorners(this.box), picture) };
  }

  lieOn(before) {
    for (const [key, most] of Object.entries({ x: picture.width, y: picture.height, width: picture.width, height: picture.height })) {
      this.$(FIELDS[key]).max = most;
    }
    if (before) {
      [this.mask, this.$("mask-name").textContent] = [null, ""];
      if (before.width !== picture.width || before.height !== picture.height) this.$("polygon").value = "";
    }
    const { x, y, width, height } = this.box;
    if (before && width > 0 && height > 0 && x + width <= picture.width && y + height <= picture.height) return;
    const side = (length) => Math.max(1, Math.round(length / 2));
    const [across, down] = [side(picture.width), side(picture.height)];
    this.write({ x: Math.floor((picture.width - across) / 2), y: Math.floor((picture.height - down) / 2), width: across, height: down });
  }

  activate() {
    active = this;
    showDrawable();
  }

  /** Begin to draw at a point. @returns whether there is something to draw */
  begin(at) {
    if (!["box", "polygon"].includes(this.kind)) return false;
    this.from = { ...at, before: this.box };
    return true;
  }

  /** @returns whether something was drawn */
  move(at) {
    if (!this.from || this.kind !== "box") return false;
    this.write(between(this.from, at));
    return true;
  }

  /** @returns true: another region is drawn; false: the one before stays; null: nothing was drawn */
  end(done) {
    if (!this.from) return null;
    const { x, y, before } = this.from;
    this.from = null;
    if (this.kind === "polygon") {
      if (done) this.$("polygon").value = `${this.$("polygon").value.trim()} ${x},${y}`.trim();
      return done && (cornersOf(this.$("polygon").value)?.length ?? 0) >= 3;
    }
    if (done && this.box.width > 0 && this.box.height > 0) return true;
    this.write(before); // a click draws no box
    return false;
  }

  write(values) {
    for (const [key, id] of Object.entries(FIELDS)) this.$(id).value = values[key];
  }
}

function showDrawable() {
  $("maps").classList.toggle("drawable", ["box", "polygon"].includes(active.kind));
}

/** The same controls once more, for another region. */
function copied(field) {
  const copy = field.cloneNode(true);
  for (const node of [copy, ...copy.querySelectorAll("*")]) {
    for (const name of ["id", "for", "aria-describedby"]) {
      if (node.hasAttribute(name)) node.setAttribute(name, `other-${node.getAttribute(name)}`);
    }
  }
  for (const label of copy.querySelectorAll("label")) {
    const [first, ...words] = label.textContent.split(" ");
    label.textContent = words.length ? `${first} the other ${words.at(-1)}` : `Other ${first.toLowerCase()}`;
  }
  copy.hidden = true;
  return copy;
}

/** A pointer in whole pixels of the picture. */
function whole(event) {
  const { x, y } = inPicture(event, event.target, picture);
  return { x: Math.round(x), y: Math.round(y) };
}

function between(one, two) {
  const [x, y] = [Math.min(one.x, two.x), Math.min(one.y, two.y)];
  return { x, y, width: Math.max(one.x, two.x) - x, height: Math.max(one.y, two.y) - y };
}
