/** The region that is explained in a segmentation: chosen from a list, drawn on the picture, or typed. */

const $ = (id) => document.getElementById(id);
const FIELDS = { x: "box-x", y: "box-y", width: "box-width", height: "box-height" };

let picture = null; // the one that the box lies on

/**
 * @param onChange called when another region is to be explained
 * @param onDraw called while a box is drawn
 */
export function setUpRegion(onChange, onDraw) {
  $("region").addEventListener("change", () => {
    show();
    onChange();
  });
  for (const id of Object.values(FIELDS)) $(id).addEventListener("change", onChange);
  let from = null;
  const at = (event) => inPicture(event, event.target);
  $("maps").addEventListener("pointerdown", (event) => {
    if (region() !== "box" || event.button !== 0 || event.target.getAttribute("role") !== "img") return;
    from = { ...at(event), before: box() };
    event.target.setPointerCapture(event.pointerId);
    event.preventDefault(); // no text is selected
  });
  $("maps").addEventListener("pointermove", (event) => {
    if (!from) return;
    write(between(from, at(event)));
    onDraw();
  });
  $("maps").addEventListener("pointerup", () => {
    if (!from) return;
    const { before } = from;
    from = null;
    if (box().width > 0 && box().height > 0) return onChange();
    write(before); // a click draws no box
    onDraw();
  });
  $("maps").addEventListener("pointercancel", () => {
    if (!from) return;
    write(from.before);
    from = null;
    onDraw();
  });
}

/** "predicted", "box" or "all". */
export const region = () => $("region").value;

/** {x, y, width, height} in pixels of the picture, as the fields say. */
export function box() {
  return Object.fromEntries(Object.entries(FIELDS).map(([key, id]) => [key, Number($(id).value)]));
}

/** Another picture: a box that does not fit in it becomes the middle of it. */
export function lieOn(source) {
  const { x, y, width, height } = box();
  const fits = picture && width > 0 && height > 0 && x + width <= source.width && y + height <= source.height;
  picture = source;
  for (const [key, most] of Object.entries({ x: source.width, y: source.height, width: source.width, height: source.height })) {
    $(FIELDS[key]).max = most;
  }
  if (fits) return;
  const side = (length) => Math.max(1, Math.round(length / 2));
  const [across, down] = [side(source.width), side(source.height)];
  write({ x: Math.floor((source.width - across) / 2), y: Math.floor((source.height - down) / 2), width: across, height: down });
}

function show() {
  $("box-field").hidden = region() !== "box";
  $("maps").classList.toggle("drawable", region() === "box");
}

function write(values) {
  for (const [key, id] of Object.entries(FIELDS)) $(id).value = values[key];
}

/** Where a pointer is, in whole pixels of the picture; a canvas keeps its sides' ratio, at the left and in the middle of its height. */
function inPicture({ clientX, clientY }, canvas) {
  const shown = canvas.getBoundingClientRect();
  const scale = Math.min(shown.width / canvas.width, shown.height / canvas.height);
  const below = (shown.height - canvas.height * scale) / 2;
  const [across, down] = [(clientX - shown.left) / scale / canvas.width, (clientY - shown.top - below) / scale / canvas.height];
  const within = (share, length) => Math.round(Math.min(Math.max(share, 0), 1) * length);
  return { x: within(across, picture.width), y: within(down, picture.height) };
}

function between(one, other) {
  const [x, y] = [Math.min(one.x, other.x), Math.min(one.y, other.y)];
  return { x, y, width: Math.max(one.x, other.x) - x, height: Math.max(one.y, other.y) - y };
}
