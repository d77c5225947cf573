// Paints numbers as colours on a canvas: images, weights, and the fields of a layer's units.

// The colours that the style sheet has for the light or the dark mode, as [red, green, blue].
function theme() {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue("--" + name).trim().split(" ").map(Number);
  return { up: colour("up"), down: colour("down"), cell: colour("cell"), ink: colour("ink"), accent: colour("accent") };
}

function css(colour) {
  return "rgb(" + colour.map(Math.round).join(" ") + ")";
}

// From the colour of an unlit cell to that of a raising (1) or a lowering (-1) value.
function signed(colours, value) {
  const share = Math.min(1, Math.abs(value)), end = value < 0 ? colours.down : colours.up;
  return css(colours.cell.map((level, i) => level + share * (end[i] - level)));
}

function grey(level) {
  return css([level, level, level].map((x) => 255 * Math.min(1, Math.max(0, x))));
}

// A canvas' context, in CSS pixels, as sharp as the screen; height: in CSS pixels, for its present width.
function prepared(canvas, aspect) {
  const ratio = window.devicePixelRatio || 1;
  const width = canvas.clientWidth, height = width / aspect;
  const [across, down] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== across || canvas.height !== down) {
    canvas.width = across;
    canvas.height = down;
    canvas.style.height = height + "px";
  }
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return { context, width, height };
}

// Cells in rows of `columns`, the i-th of the colour that colourOf(i) gives, with a gap between them in CSS pixels.
function paintCells(canvas, count, columns, colourOf, gap = 0) {
  const rows = Math.ceil(count / columns);
  const { context, width } = prepared(canvas, columns / rows);
  const ratio = canvas.width / width, side = width / columns;
  const edge = (i) => Math.round(i * side * ratio) / ratio; // on whole pixels of the screen, so that no seams show
  for (let i = 0; i < count; i++) {
    const [column, row] = [i % columns, Math.floor(i / columns)];
    context.fillStyle = colourOf(i);
    context.fillRect(edge(column), edge(row), edge(column + 1) - edge(column) - gap, edge(row + 1) - edge(row) - gap);
  }
  return { context, side };
}

// Frames around cells: [[index, colour], ...].
function paintFrames({ context, side }, columns, frames) {
  context.lineWidth = side > 20 ? 3 : 2;
  for (const [i, colour] of frames) {
    context.strokeStyle = css(colour);
    context.strokeRect((i % columns) * side + 0.5, Math.floor(i / columns) * side + 0.5, side - 2, side - 2);
  }
}

function largest(values) {
  return values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
}

function columnsOf(count) {
  return Math.max(1, Math.min(count, Math.ceil(Math.sqrt(1.25 * count))));
}
