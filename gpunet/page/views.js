// What the page shows of the network: the image it sees, its layers as fields of cells, one unit in numbers, and the
// classes. `state` is the page's: {description, layers, input, results, selected}; results is null without an image.

const STRONGEST = 6; // number of onward connections listed

// An element with a class and a text, which is never read as HTML.
function element(name, className = "", text = "") {
  const made = document.createElement(name);
  made.className = className;
  made.textContent = text;
  return made;
}

function byId(id) {
  return document.getElementById(id);
}

// A number with a real minus sign, and with digits after the point chosen so that it is no wider than others.
function shown(x, digits = 3) {
  const size = Math.abs(x);
  const text = size >= 1e4 || (size > 0 && size < 1e-3) ? x.toExponential(1) : x.toFixed(size < 10 ? digits : 1);
  return text.replaceAll("-", "\u2212");
}

function percent(x) {
  return (100 * x).toFixed(1) + " %";
}

function nameOfLayer(state, layer) {
  return layer === state.layers.length - 1 ? "output layer" : "hidden layer " + (layer + 1);
}

function nameOfUnit(state, layer, unit) {
  return layer === state.layers.length - 1 ? state.description.labels[unit] : "unit " + (unit + 1);
}

// The formula of a layer's activation, as in "tanh(x) = ...".
function formulaOf(state, layer) {
  const { activation } = state.layers[layer];
  return activation + "(x) = " + state.description.formulas[activation];
}

function paintImage(state) {
  const { width, height, low, high } = state.description.image;
  const level = (x) => (x - low) / (high - low || 1);
  const cells = paintCells(byId("image"), width * height, width, (i) => grey(state.input ? level(state.input[i]) : 0));
  if (!state.description.drawable) return;
  cells.context.strokeStyle = "rgb(255 255 255 / 0.28)"; // the box of 20 x 20, and the middle
  cells.context.lineWidth = 1;
  const [side, margin] = [cells.side, (SIDE - BOX) / 2];
  cells.context.strokeRect(margin * side, margin * side, BOX * side, BOX * side);
  cells.context.beginPath();
  for (const [x, y] of [[1, 0], [0, 1]]) {
    cells.context.moveTo((SIDE / 2 - x) * side, (SIDE / 2 - y) * side);
    cells.context.lineTo((SIDE / 2 + x) * side, (SIDE / 2 + y) * side);
  }
  cells.context.stroke();
}

// Makes a field for every hidden layer. select(layer, unit) is called for what the pointer or the keys choose.
function makeFields(state, select) {
  state.layers.slice(0, -1).forEach(({ units }, layer) => {
    const figure = element("figure", "layer"), field = element("canvas", "field"), columns = columnsOf(units);
    figure.append(element("h3", "", `Hidden layer ${layer + 1}: ${units} units`), field);
    figure.append(element("figcaption", "", formulaOf(state, layer)));
    Object.assign(field, { tabIndex: 0 });
    const facts = { role: "slider", "aria-label": `Units of hidden layer ${layer + 1}`, "aria-valuemin": 1, "aria-valuemax": units, "aria-valuenow": 1 };
    for (const [name, value] of Object.entries(facts)) field.setAttribute(name, value);
    const point = (event) => {
      const frame = field.getBoundingClientRect(), side = frame.width / columns;
      const column = Math.floor((event.clientX - frame.left) / side);
      const unit = Math.floor((event.clientY - frame.top) / side) * columns + column;
      if (column >= 0 && column < columns && unit >= 0 && unit < units) select(layer, unit);
    };
    for (const name of ["pointermove", "pointerdown"]) field.addEventListener(name, point);
    const own = () => (state.selected.layer === layer ? state.selected.unit : 0);
    field.addEventListener("focus", () => select(layer, own()));
    field.addEventListener("keydown", (event) => {
      const ways = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns, Home: -units, End: units };
      if (!(event.key in ways) || event.ctrlKey || event.altKey || event.metaKey) return;
      event.preventDefault();
      select(layer, Math.min(units - 1, Math.max(0, own() + ways[event.key])));
    });
    byId("layers").append(figure);
  });
}

// The unit that is inspected, and the strongest connections from it, as frames around the cells of each layer.
function framesOf(state, layer) {
  const { ink, up, down } = theme();
  if (layer === state.selected.layer) return [[state.selected.unit, ink]];
  if (layer !== state.selected.layer + 1) return [];
  return strongestOf(state).map(({ unit, weight }) => [unit, weight < 0 ? down : up]);
}

function paintFields(state) {
  const colours = theme();
  document.querySelectorAll(".field").forEach((field, layer) => {
    const { units, activation } = state.layers[layer], columns = columnsOf(units);
    const outputs = state.results ? state.results[layer].outputs : new Float64Array(units);
    const bounded = ["sigmoid", "tanh", "softsign", "hard_sigmoid"].includes(activation); // their limit is 1
    const full = bounded ? 1 : largest(outputs) || 1;
    const cells = paintCells(field, units, columns, (i) => signed(colours, outputs[i] / full), 1);
    paintFrames(cells, columns, framesOf(state, layer));
    field.nextSibling.textContent = formulaOf(state, layer) + (bounded ? "" : `; brightest: ${shown(full)}`);
    const unit = state.selected.layer === layer ? state.selected.unit : 0;
    field.setAttribute("aria-valuenow", unit + 1);
    field.setAttribute("aria-valuetext", `unit ${unit + 1} of ${units}, output ${shown(outputs[unit])}`);
  });
}

// The inspected unit's connections to the next layer that have the largest weights.
function strongestOf(state) {
  const { layer, unit } = state.selected, next = state.layers[layer + 1];
  if (!next) return [];
  const row = Array.from(next.weights.subarray(unit * next.units, (unit + 1) * next.units), (weight, i) => ({ unit: i, weight }));
  return row.sort((a, b) => Math.abs(b.weight) - Math.abs(a.weight)).slice(0, STRONGEST);
}

function paintUnit(state, select) {
  const { layer, unit } = state.selected, { weights, bias, units, inputs } = state.layers[layer];
  const isClass = layer === state.layers.length - 1, colours = theme();
  const name = nameOfUnit(state, layer, unit);
  byId("unit-heading").textContent = isClass ? `Class ${name}` : `Hidden layer ${layer + 1}, ${name}`;
  const columns = layer === 0 ? state.description.image.width : columnsOf(inputs);
  const incoming = Float64Array.from({ length: inputs }, (_, i) => weights[i * units + unit]);
  const before = state.results && (layer === 0 ? state.input : state.results[layer - 1].outputs);
  const products = incoming.map((weight, i) => (before ? weight * before[i] : 0));
  const source = layer === 0 ? "pixels" : nameOfLayer(state, layer - 1);
  for (const [id, values, what] of [["weights", incoming, `weights from ${source}`], ["products", products, "input \u00d7 weight"]]) {
    const most = largest(values);
    paintCells(byId(id), inputs, columns, (i) => signed(colours, values[i] / (most || 1)), layer === 0 ? 0 : 0.5);
    const range = `${what}, up to \u00b1${shown(most)}`;
    byId(id + "-caption").textContent = range;
    byId(id).setAttribute("aria-label", `${range}, of ${isClass ? "class " : ""}${name}`);
  }
  showNumbers(state, bias[unit]);
  showOnward(state, select);
}

function showNumbers(state, bias) {
  const { layer, unit } = state.selected, result = state.results && state.results[layer];
  const { activation } = state.layers[layer];
  const number = (x) => (result ? shown(x) : "\u2013");
  const lines = [
    ["\u03a3 input \u00d7 weight", number(result && result.sums[unit] - bias)],
    ["bias", shown(bias)],
    ["sum x", number(result && result.sums[unit]), "total"],
    [activation === "softmax" ? "softmax: probability" : `${activation}(x)`, number(result && result.outputs[unit]), "total"],
  ];
  byId("unit-numbers").replaceChildren(...lines.flatMap(([term, value, kind]) => [element("dt", kind, term), element("dd", kind, value)]));
}

function showOnward(state, select) {
  const { layer } = state.selected, strongest = strongestOf(state);
  byId("onward").hidden = strongest.length === 0;
  const isClass = layer + 1 === state.layers.length - 1;
  byId("onward-heading").textContent = `Strongest, to ${isClass ? "the classes" : nameOfLayer(state, layer + 1)}`;
  const items = strongest.map(({ unit, weight }) => {
    const item = element("li"), button = element("button");
    button.type = "button";
    button.append(element("span", "", (isClass ? "class " : "") + nameOfUnit(state, layer + 1, unit)));
    button.append(element("span", weight < 0 ? "down" : "up", (weight < 0 ? "" : "+") + shown(weight)));
    button.addEventListener("click", () => {
      select(layer + 1, unit);
      byId("unit-heading").focus({ preventScroll: true }); // the button is gone
    });
    item.append(button);
    return item;
  });
  byId("onward").querySelector("ul").replaceChildren(...items);
}

// Makes a row for every class.
function makeClasses(state, select) {
  const { labels } = state.description, last = state.layers.length - 1;
  byId("classes").classList.toggle("named", labels.some((label) => label.length > 3));
  labels.forEach((label, unit) => {
    const row = byId("classes").tBodies[0].insertRow(), head = element("th"), button = element("button", "", label);
    head.scope = "row";
    button.type = "button";
    button.title = label;
    button.addEventListener("click", () => select(last, unit));
    button.addEventListener("focus", () => select(last, unit));
    row.addEventListener("pointermove", () => select(last, unit));
    head.append(button);
    const bar = element("td"), frame = element("div", "bar");
    frame.append(element("div"));
    bar.append(frame);
    row.append(head, element("td"), bar, element("td"));
  });
  byId("softmax-formula").textContent = formulaOf(state, last);
}

function paintClasses(state) {
  const last = state.layers.length - 1, result = state.results && state.results[last];
  const best = result ? result.outputs.indexOf(Math.max(...result.outputs)) : -1;
  const marks = new Map(state.selected.layer === last - 1 ? strongestOf(state).map(({ unit, weight }) => [unit, weight]) : []);
  Array.from(byId("classes").tBodies[0].rows).forEach((row, unit) => {
    const share = result ? result.outputs[unit] : 0, weight = marks.get(unit);
    row.className = [
      unit === best && "best",
      weight !== undefined && (weight < 0 ? "down" : "up"),
      state.selected.layer === last && state.selected.unit === unit && "selected",
    ].filter(Boolean).join(" ");
    row.cells[1].textContent = result ? shown(result.sums[unit], 2) : "";
    row.cells[2].firstChild.firstChild.style.width = 100 * share + "%";
    row.cells[3].textContent = result ? percent(share) : "";
  });
  const name = result ? state.description.labels[best] : "?";
  byId("guess-name").textContent = name;
  byId("guess-name").className = name.length > 4 ? "long" : "";
  byId("small-guess").textContent = result ? `${name}, ${percent(result.outputs[best])}` : "";
  byId("guess-share").textContent = result ? percent(result.outputs[best]) + truthOf(state, best) : "";
}

// The example's true class, next to the guess.
function truthOf(state, best) {
  if (!state.example) return "";
  const truth = state.description.labels[state.example.truth];
  return state.example.truth === best ? `, right: it is ${truth}` : `, wrong: it is ${truth}`;
}

// In words, for a screen reader.
function inWords(state) {
  if (!state.results) return "empty";
  const { outputs } = state.results.at(-1), { labels } = state.description;
  const order = Array.from(outputs.keys()).sort((a, b) => outputs[b] - outputs[a]);
  return `${labels[order[0]]}, ${percent(outputs[order[0]])}${truthOf(state, order[0])}; next ${labels[order[1] ?? 0]}, ${percent(outputs[order[1] ?? 0])}`;
}
