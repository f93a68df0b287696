// The page of `geoseg serve`: imagery under, prediction and layers over it, cut at the divider.

import * as maplibregl from "/static/maplibre/maplibre-gl.mjs";

const token = document.querySelector("meta[name=token]").content;
const element = (id) => document.getElementById(id);
const empty = { version: 8, sources: {}, layers: [] };
const control = { style: empty, attributionControl: false, maxPitch: 0, dragRotate: false, pitchWithRotate: false };
const under = window.under = new maplibregl.Map({ container: "under", ...control });
const over = window.over = new maplibregl.Map({ container: "over", ...control });
over.addControl(new maplibregl.NavigationControl({ showCompass: false }));
over.addControl(new maplibregl.ScaleControl());
over.touchZoomRotate.disableRotation();
over.on("move", () => under.jumpTo({ center: over.getCenter(), zoom: over.getZoom() }));

let world, scene, prediction, threshold;
const decoded = new Map(); // address of a raw tile: its pixels, the last ones asked for
const COLORS = ["#1f78ff", "#8a2be2", "#00a88f", "#d4a500"]; // of layers
const KEPT = 400, NONE = 255, STEPS = 250, OPACITY = 255;

const json = async (address, options) => {
  const answer = await fetch(address, options);
  if (!answer.ok) throw new Error((await answer.text()).trim());
  return answer.json();
};

async function pixels(address, signal) {
  let known = decoded.get(address);
  if (!known) {
    let answer = await fetch(address, { signal });
    for (let trial = 0; answer.status === 429 && trial < 5; trial++) {
      await new Promise((wake) => setTimeout(wake, 1000 * Number(answer.headers.get("Retry-After") || 1)));
      answer = await fetch(address, { signal });
    }
    if (!answer.ok) throw new Error(await answer.text());
    const image = await createImageBitmap(await answer.blob(), { colorSpaceConversion: "none", premultiplyAlpha: "none" });
    const canvas = new OffscreenCanvas(image.width, image.height);
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(image, 0, 0);
    known = context.getImageData(0, 0, image.width, image.height);
  }
  decoded.delete(address);
  decoded.set(address, known);
  if (decoded.size > KEPT) decoded.delete(decoded.keys().next().value);
  return known;
}

// raw://THRESHOLD/ADDRESS: a raw tile, coloured where the probability reaches the threshold.
maplibregl.addProtocol("raw", async (request, abort) => {
  const [, threshold, address] = request.url.match(/^raw:\/\/([^/]+)\/(.*)$/);
  const raw = await pixels(address, abort.signal);
  const shown = new ImageData(raw.width, raw.height);
  const colors = new Map(scene.classes.map((one) => [one.id, one.color]));
  const single = scene.channels.length === 1 ? scene.channels[0] : 0;
  for (let i = 0; i < raw.data.length; i += 4) {
    const color = colors.get(single || raw.data[i + 1]);
    if (color && raw.data[i] !== NONE && raw.data[i] >= threshold * STEPS) shown.data.set([...color, OPACITY], i);
  }
  return { data: await createImageBitmap(shown) };
});

const address = () => [`raw://${threshold}/${prediction.tiles[0]}?raw`];

async function show(name) {
  const chosen = world.scenes.find((one) => one.name === name);
  const [imagery, predicted] = await Promise.all([json(chosen.imagery), json(chosen.prediction)]);
  if (element("scene").value !== name) return; // another was chosen meanwhile
  [scene, prediction] = [chosen, predicted];
  // The slider rounds to its steps; what is shown is not rounded until it is moved.
  threshold = element("level").value = element("threshold").value = scene.threshold;
  const metres = scene.resolution_m ? `, ${scene.resolution_m[0].toPrecision(2)} m` : "";
  element("about").textContent = [`${scene.size[0]} × ${scene.size[1]} pixels${metres}; model ${scene.model}`, ...scene.warnings].join("; ");
  element("classes").replaceChildren(...scene.classes.map((one) => {
    const item = document.createElement("li"), swatch = document.createElement("span");
    swatch.className = "swatch";
    swatch.style.background = `rgb(${one.color})`;
    item.append(swatch, one.name);
    return item;
  }));
  for (const map of [under, over]) {
    map.setStyle(empty);
    map.addSource("imagery", { type: "raster", tileSize: 256, ...part(imagery) });
    map.addLayer({ id: "imagery", type: "raster", source: "imagery", paint: { "raster-fade-duration": 0 } });
  }
  over.addSource("prediction", { type: "raster", tileSize: 256, ...part(prediction), tiles: address() });
  over.addLayer({ id: "prediction", type: "raster", source: "prediction", paint: { "raster-fade-duration": 0, "raster-resampling": "nearest" } });
  setOpacity();
  for (const layer of world.layers) await addLayer(layer);
  const [west, south, east, north] = scene.bounds;
  over.jumpTo({ center: [(west + east) / 2, (south + north) / 2], zoom: Math.max(prediction.preview_below, scene.zoom - 1) - 1 });
  notes();
  element("far").dataset.from = imagery.minzoom;
}

const part = ({ tiles, bounds, minzoom, maxzoom }) => ({ tiles, bounds, minzoom, maxzoom });
const setOpacity = () => over.setPaintProperty("prediction", "raster-opacity", Number(element("opacity").value));

// A map tile of 256 pixels is of the next zoom.
function notes() {
  const zoom = Math.round(over.getZoom() + 1);
  element("preview").hidden = !prediction || zoom >= prediction.preview_below;
  element("far").hidden = zoom >= Number(element("far").dataset.from || 0);
}

async function addLayer(layer) {
  const found = await json(layer.tiles);
  if (over.getSource(layer.name)) return;
  over.addSource(layer.name, { type: "vector", ...part(found) });
  const color = COLORS[world.layers.findIndex((one) => one.name === layer.name) % COLORS.length];
  over.addLayer({ id: layer.name, type: "fill", source: layer.name, "source-layer": layer.name, paint: { "fill-color": color, "fill-opacity": 0.04 } });
  over.addLayer({ id: `${layer.name} outline`, type: "line", source: layer.name, "source-layer": layer.name, paint: { "line-color": color, "line-width": 1.5 } });
  const known = element(`layer ${layer.name}`);
  if (known) return known.querySelector("input").onchange();
  const item = document.createElement("li"), label = document.createElement("label");
  const box = document.createElement("input"), link = document.createElement("a");
  item.id = `layer ${layer.name}`;
  Object.assign(box, { type: "checkbox", checked: true });
  box.onchange = () => [layer.name, `${layer.name} outline`].forEach((id) => over.setLayoutProperty(id, "visibility", box.checked ? "visible" : "none"));
  Object.assign(link, { href: layer.download, textContent: "download", download: "" });
  label.style.color = color;
  label.append(box, ` ${layer.name} (${layer.features.toLocaleString()}) `, link);
  item.append(label);
  element("layers").append(item);
}

over.on("click", (event) => {
  const names = world.layers.map((layer) => layer.name).filter((name) => over.getLayer(name));
  const [found] = over.queryRenderedFeatures(event.point, { layers: names });
  if (!found) return;
  const table = document.createElement("table");
  for (const [name, value] of Object.entries(found.properties)) {
    const row = table.insertRow();
    row.insertCell().textContent = name;
    row.insertCell().textContent = typeof value === "number" ? Number(value.toPrecision(5)) : value;
  }
  new maplibregl.Popup({ maxWidth: "320px" }).setLngLat(event.lngLat).setDOMContent(table).addTo(over);
});

async function watch() {
  element("run").disabled = true;
  element("progress").hidden = element("cancel").hidden = false;
  for (;;) {
    const job = (await json("/jobs")).at(-1);
    element("progress").value = job.share;
    element("message").textContent = job.state === "running" ? `Mapping: ${Math.round(100 * job.share)} %` : job.message;
    if (job.state !== "running") {
      element("progress").hidden = element("cancel").hidden = true;
      element("run").disabled = false;
      world = await json("/scenes");
      const made = world.layers.find((layer) => layer.name === job.name);
      if (made) await addLayer(made);
      return;
    }
    await new Promise((wake) => setTimeout(wake, 300));
  }
}

element("run").onclick = async () => {
  const headers = { "X-Geoseg-Token": token };
  element("run").disabled = true;
  try {
    await json(`/map/${scene.name}?bbox=${over.getBounds().toArray().flat()}`, { method: "POST", headers });
    await watch();
  } catch (error) {
    element("message").textContent = error.message;
    element("run").disabled = false;
  }
};
element("cancel").onclick = () => fetch("/jobs", { method: "DELETE", headers: { "X-Geoseg-Token": token } });

element("scene").onchange = () => show(element("scene").value);
element("opacity").oninput = setOpacity;
let later;
element("threshold").oninput = () => {
  threshold = element("level").value = element("threshold").value;
  clearTimeout(later);
  later = setTimeout(() => over.getSource("prediction").setTiles(address()), 60);
};

const divider = element("divider");
const split = (share) => {
  element("over").style.setProperty("--split", `${100 * share}%`);
  divider.style.left = `${100 * share}%`;
};
element("compare").onchange = () => {
  divider.hidden = !element("compare").checked;
  split(divider.hidden ? 0 : 0.5);
};
divider.onpointerdown = (event) => divider.setPointerCapture(event.pointerId);
divider.onpointermove = (event) => { if (event.buttons) split(Math.min(0.98, Math.max(0.02, event.clientX / innerWidth))); };
over.on("zoom", notes);
over.on("error", ({ error }) => { if (!error.status) element("about").textContent = error.message; }); // of a raw tile

(async () => {
  world = await json("/scenes");
  element("scene").replaceChildren(...world.scenes.map((one) => new Option(one.name, one.name)));
  element("mapping").hidden = world.read_only;
  await Promise.all([under, over].map((map) => map.loaded() || map.once("load")));
  await show(world.scenes[0].name);
  document.body.dataset.ready = "true";
  if ((await json("/jobs")).at(-1)?.state === "running") await watch(); // begun on a page that was left
})();
