/** The most likely classes, or the surest detections, each a button that explains it. */

/** How many are listed. */
export const shownOf = ({ kind }) => (kind === "boxes" ? 8 : 5);

/** A share as text, or a score where nothing makes probabilities of it. */
export const likely = (share, apply) => (apply === "raw" ? `score ${share.toPrecision(4)}` : `${(100 * share).toFixed(1)} %`);

/** @param onPick called with the number of a class whose button is pressed */
export function setUpPrediction({ classes, apply, explained }, onPick) {
  for (let i = 0; i < Math.min(shownOf(explained), classes); i++) {
    const button = Object.assign(document.createElement("button"), { type: "button" });
    const bar = Object.assign(document.createElement("progress"), { max: 1, hidden: apply === "raw" });
    bar.setAttribute("aria-hidden", "true");
    button.append(document.createElement("span"), document.createElement("span"), bar);
    button.addEventListener("click", () => onPick(Number(button.dataset.number)));
    const item = document.createElement("li");
    item.append(button);
    document.getElementById("prediction").append(item);
  }
}

/**
 * @param classes which are listed, in this order
 * @param target the class explained, whose button is pressed
 * @param choosable whether another class can be explained
 */
export function showPrediction({ classes, shares, names, apply, target, choosable }) {
  document.querySelectorAll("#prediction button").forEach((button, i) => {
    button.parentElement.hidden = i >= classes.length;
    if (i >= classes.length) return;
    const [label, number, bar] = button.children;
    label.textContent = names[classes[i]];
    button.dataset.number = classes[i];
    number.textContent = likely(shares[classes[i]], apply);
    if (apply !== "raw") bar.value = Math.min(Math.max(shares[classes[i]], 0), 1);
    button.disabled = !choosable;
    button.setAttribute("aria-pressed", classes[i] === target);
  });
  for (const id of ["prediction", "prediction-heading"]) document.getElementById(id).hidden = classes.length === 0;
  document.getElementById("result").hidden = false;
}
