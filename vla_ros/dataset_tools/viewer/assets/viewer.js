"use strict";
// One state for the whole page: which episode is shown, at which frame, and which episodes are flagged.
const state = { about: null, episode: 0, frame: 0, plots: [], flagged: new Set(), timer: null };
const $ = (id) => document.getElementById(id);
const make = (tag, text, parent, className) => {
  const node = document.createElement(tag);
  if (text !== undefined) node.textContent = text;
  if (className) node.className = className;
  if (parent) parent.append(node);
  return node;
};
const svg = (tag, attributes, parent) => {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  parent.append(node);
  return node;
};
const row = () => state.about.rows[state.episode];
const memory = () => `vla_ros flagged ${state.about.root} ${state.about.frames}`;

function vlaDataset(about) {
  state.about = about;
  try { state.flagged = new Set(JSON.parse(localStorage.getItem(memory()) || "[]")); } catch { state.flagged = new Set(); }
  document.title = about.root;
  $("title").textContent = `${about.root}: ${about.episodes} episodes, ${about.frames} frames, ${about.fps} per second`;
  drawEnds();
  drawStatistics();
  drawList();
  showPage("episode");
  showEpisode(0);
}

function vlaEpisode(content) {
  if (content.index !== state.episode) return;
  state.plots = content.plots;
  drawPlots();
  setFrame(0);
}

function showEpisode(index) {
  stop();
  state.episode = index;
  state.plots = [];
  const own = row();
  $("heading").textContent = `Episode ${index}: ${own.tasks.join("; ")}`;
  $("cursor").max = own.length - 1;
  $("flag").checked = state.flagged.has(index);
  $("videos").replaceChildren();
  for (const video of own.videos) {
    const figure = make("figure", undefined, $("videos"));
    const player = make("video", undefined, figure);
    player.src = `videos/${video.name}.mp4`;
    player.muted = true;
    player.preload = "auto";
    player.addEventListener("loadeddata", () => seek(player));
    make("figcaption", video.camera, figure);
  }
  $("plots").replaceChildren();
  const script = make("script", undefined, document.head);
  script.src = `episodes/${String(index).padStart(6, "0")}.js`;
  script.addEventListener("load", () => script.remove());
  drawList();
}

// In the middle of the frame, so that rounding never shows the one before.
function seek(player) { player.currentTime = (state.frame + 0.5) / state.about.fps; }

function setFrame(frame) {
  state.frame = Math.max(0, Math.min(row().length - 1, frame));
  $("cursor").value = state.frame;
  $("time").textContent = `frame ${state.frame} of ${row().length}, ${(state.frame / state.about.fps).toFixed(2)} s`;
  for (const player of document.querySelectorAll("#videos video")) seek(player);
  for (const line of document.querySelectorAll("#plots line")) {
    line.setAttribute("x1", state.frame);
    line.setAttribute("x2", state.frame);
  }
}

function stop() {
  clearInterval(state.timer);
  state.timer = null;
  $("play").textContent = "Play";
}

function play() {
  if (state.timer) return stop();
  if (state.frame >= row().length - 1) setFrame(0);
  $("play").textContent = "Pause";
  const begin = performance.now() - (state.frame * 1000) / state.about.fps;
  state.timer = setInterval(() => {
    const frame = Math.floor(((performance.now() - begin) * state.about.fps) / 1000);
    if (frame !== state.frame) setFrame(frame);
    if (frame >= row().length - 1) stop();
  }, 1000 / (2 * state.about.fps));
}

function drawPlots() {
  $("plots").replaceChildren();
  const width = Math.max(1, row().length - 1);
  for (const plot of state.plots) {
    const numbers = plot.lines.flatMap((line) => line.values).filter((value) => value !== null);
    const low = numbers.reduce((a, b) => Math.min(a, b), Infinity), high = numbers.reduce((a, b) => Math.max(a, b), -Infinity);
    const span = high - low || 1;
    const figure = make("figure", undefined, $("plots"));
    make("figcaption", numbers.length ? `${plot.name}  (${low.toPrecision(3)} to ${high.toPrecision(3)})` : `${plot.name}  (no number)`, figure);
    const picture = svg("svg", { viewBox: `0 -5 ${width} 110`, preserveAspectRatio: "none" }, figure);
    for (const line of plot.lines) {
      const points = line.values.map((value, k) => (value === null ? "" : `${k},${(100 - (100 * (value - low)) / span).toFixed(2)}`));
      const path = svg("path", { d: `M${points.filter(Boolean).join("L")}`, class: line.dashed ? "action" : "state" }, picture);
      svg("title", {}, path).textContent = line.feature;
    }
    svg("line", { x1: 0, x2: 0, y1: -5, y2: 105 }, picture);
    picture.addEventListener("pointerdown", (event) => {
      const box = picture.getBoundingClientRect();
      stop();
      setFrame(Math.round(((event.clientX - box.left) / box.width) * width));
    });
  }
}

function drawList() {
  const order = $("order").value;
  const rows = [...state.about.rows].sort((a, b) => (order === "index" ? a.index - b.index : b[order] - a[order]));
  $("list").replaceChildren();
  for (const own of rows) {
    const item = make("li", `Episode ${own.index}`, $("list"));
    item.dataset.index = own.index;
    item.classList.toggle("chosen", own.index === state.episode);
    item.classList.toggle("flagged", state.flagged.has(own.index));
    make("small", `${(own.length / state.about.fps).toFixed(1)} s, jerk ${own.jerk.toPrecision(3)}, ${own.tasks.join("; ")}`, item);
    item.addEventListener("click", () => { showPage("episode"); showEpisode(own.index); });
  }
  $("flagged").textContent = flaggedText() || "none is flagged";
}

const flaggedText = () => [...state.flagged].sort((a, b) => a - b).join(",");

function flag() {
  if ($("flag").checked) state.flagged.add(state.episode); else state.flagged.delete(state.episode);
  try { localStorage.setItem(memory(), JSON.stringify([...state.flagged])); } catch { /* a browser that stores nothing */ }
  drawList();
}

function download() {
  const link = make("a");
  link.href = URL.createObjectURL(new Blob([`${flaggedText()}\n`], { type: "text/plain" }));
  link.download = "flagged_episodes.txt";
  link.click();
  URL.revokeObjectURL(link.href);
}

function drawEnds() {
  const page = $("page-ends");
  make("h2", "The first and the last frame of every episode", page);
  const grid = make("div", undefined, page, "ends");
  for (const own of state.about.rows) for (const video of own.videos) {
    const figure = make("figure", undefined, grid);
    for (const end of ["first", "last"]) {
      const image = make("img", undefined, figure);
      image.loading = "lazy";
      image.src = `images/${video.name}-${end}.jpg`;
      image.alt = `${end} frame of episode ${own.index}`;
    }
    make("figcaption", `episode ${own.index}, ${video.camera}`, figure);
    figure.addEventListener("click", () => { showPage("episode"); showEpisode(own.index); });
  }
}

function drawStatistics() {
  const page = $("page-statistics");
  make("h2", "Statistics of every number over all episodes", page);
  const columns = ["feature", "name", "min", "q01", "q10", "mean", "q50", "std", "q90", "q99", "max"];
  const table = make("table", undefined, page);
  const head = make("tr", undefined, make("thead", undefined, table));
  for (const column of columns) make("th", column, head);
  const body = make("tbody", undefined, table);
  for (const own of state.about.stats) {
    const line = make("tr", undefined, body);
    for (const column of columns) make("td", typeof own[column] === "number" ? own[column].toPrecision(4) : own[column] ?? "", line);
  }
}

function showPage(name) {
  for (const section of document.querySelectorAll("main section")) section.hidden = section.id !== `page-${name}`;
  for (const button of document.querySelectorAll("nav button")) button.classList.toggle("chosen", button.dataset.page === name);
}

for (const button of document.querySelectorAll("nav button")) button.addEventListener("click", () => showPage(button.dataset.page));
$("order").addEventListener("change", drawList);
$("flag").addEventListener("change", flag);
$("download").addEventListener("click", download);
$("play").addEventListener("click", play);
$("cursor").addEventListener("input", () => { stop(); setFrame(Number($("cursor").value)); });
document.addEventListener("keydown", (event) => {
  if (["SELECT", "INPUT"].includes(event.target.tagName) && event.target.type !== "checkbox") return;
  if (event.key === "ArrowRight") setFrame(state.frame + 1);
  else if (event.key === "ArrowLeft") setFrame(state.frame - 1);
  else if (event.key === "f") { $("flag").checked = !$("flag").checked; flag(); }
  else return;
  stop();
  event.preventDefault();
});
