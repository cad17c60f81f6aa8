/** The menu of what can be saved, and what its three files hold. */

import { download, fileName, npy, pictureOf, rowsOf } from "./save.js";

const $ = (id) => document.getElementById(id);

/**
 * @param shown gives {config, panels, last: the last explanation} when something is saved
 * @param onError called with a message if something fails
 */
export function setUpSaveMenu(shown, onError) {
  const open = (yes) => {
    $("save-menu").hidden = !yes;
    $("save").setAttribute("aria-expanded", yes);
  };
  $("save").addEventListener("click", () => open($("save-menu").hidden));
  $("save-group").addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    open(false);
    $("save").focus();
  });
  $("save-group").addEventListener("focusout", ({ relatedTarget }) => {
    if (!$("save-group").contains(relatedTarget)) open(false);
  });
  const kinds = { "save-picture": [picture, "png"], "save-npy": [map, "npy"], "save-json": [everything, "json"] };
  for (const [id, [make, suffix]] of Object.entries(kinds)) {
    $(id).addEventListener("click", async () => {
      open(false);
      $("save").focus();
      try {
        const now = shown();
        const name = fileName(now.panels[0].shown.source.name, now.last.method, now.last.said);
        download(await make(now), `${name}.${suffix}`);
      } catch (error) {
        onError(`It can't be saved (${error.message}).`);
      }
    });
  }
}

function picture({ config, panels }) {
  return pictureOf(panels, [`${config.title}, layer ${config.layer}`, `${config.producer}, ${config.runtime}`]);
}

const map = ({ last }) => new Blob([npy(last.raw)]);

function everything({ config, panels, last }) {
  const { source, part } = panels[0].shown;
  const mapOf = ({ method, target, said, versus, against, raw, signed }) => ({
    method,
    target,
    label: said,
    ...(versus === undefined ? {} : { versus, versus_label: against }),
    signed,
    raw: rowsOf(raw),
  });
  const saved = {
    name: config.name,
    layer: config.layer,
    producer: config.producer,
    picture: { name: source.name, height: source.height, width: source.width },
    seen: part,
    predicted: last.predicted,
    ...(config.explained.kind === "classes" ? {} : { explained: last.about }),
    [config.apply === "raw" ? "scores" : "probabilities"]: Array.from(last.likelihoods),
    maps: [last, last.other, last.difference].filter(Boolean).map(mapOf),
  };
  return new Blob([JSON.stringify(saved)], { type: "application/json" });
}
