// From the strokes of a pen to the image that the network sees, made as those of MNIST were made: the digit just fits a
// box of 20 x 20 pixels, and its centre of mass is in the middle of 28 x 28. gpunet/digits/strokes.py and normalize.py
// do the same, step by step, with the same numbers.

const SIDE = 28, BOX = 20; // pixels
const FINE = 8; // dots per pixel, in the drawing before it is scaled
const THINNEST = 2.4, THICKEST = 3.6; // pixels: limits of a stroke's width

// strokes: arrays of points [x, y, width of the pen]. Returns 784 levels from 0 to 255, or null without a stroke.
function imageOfStrokes(strokes) {
  const lines = strokes.filter((line) => line.length > 0);
  if (lines.length === 0) return null;
  return centred(fitted(trimmed(drawn(scaled(lines)))));
}

// Rounds to the nearest whole number; a half to the even one, as Python does.
function rounded(x) {
  const below = Math.floor(x);
  if (x - below !== 0.5) return Math.round(x);
  return below % 2 === 0 ? below : below + 1;
}

// The lines with widths limited to MNIST's range, scaled to the box in dots, one dot from the upper left corner.
function scaled(lines) {
  const ends = (of, which) => lines.flat().reduce((best, point) => which(best, of(point)), of(lines[0][0]));
  const span = (axis) => ends((p) => p[axis], Math.max) - ends((p) => p[axis], Math.min);
  const extent = Math.max(span(0), span(1));
  if (extent > 0) { // else it is a dot, of any width
    const least = (extent * THINNEST) / (BOX - THINNEST), most = (extent * THICKEST) / (BOX - THICKEST);
    lines = lines.map((line) => line.map(([x, y, w]) => [x, y, Math.min(Math.max(w, least), most)]));
  }
  const low = [0, 1].map((axis) => ends((p) => p[axis] - p[2] / 2, Math.min));
  const high = [0, 1].map((axis) => ends((p) => p[axis] + p[2] / 2, Math.max));
  const scale = (FINE * BOX) / Math.max(high[0] - low[0], high[1] - low[1]);
  return lines.map((line) => line.map(([x, y, w]) => [(x - low[0]) * scale + 1, (y - low[1]) * scale + 1, w * scale]));
}

// How much of each dot is covered: 1 inside the pen's path, 0 outside, in between within half a dot of its edge.
function drawn(lines) {
  const size = (axis) => Math.ceil(lines.flat().reduce((most, p) => Math.max(most, p[axis] + p[2] / 2), 0)) + 1;
  const [width, height] = [size(0), size(1)];
  const values = new Float64Array(width * height);
  for (const line of lines) {
    for (let i = 0; i < Math.max(1, line.length - 1); i++) {
      drawSegment(values, width, height, line[i], line[i + 1] ?? line[i]);
    }
  }
  return { width, height, values };
}

function drawSegment(values, width, height, [fromX, fromY, fromWidth], [toX, toY, toWidth]) {
  const [alongX, alongY, alongWidth] = [toX - fromX, toY - fromY, toWidth - fromWidth];
  const square = alongX * alongX + alongY * alongY;
  const reach = Math.max(fromWidth, toWidth) / 2 + 1; // nothing farther away is covered
  const right = Math.min(width, Math.ceil(Math.max(fromX, toX) + reach));
  const bottom = Math.min(height, Math.ceil(Math.max(fromY, toY) + reach));
  for (let row = Math.max(0, Math.floor(Math.min(fromY, toY) - reach)); row < bottom; row++) {
    for (let column = Math.max(0, Math.floor(Math.min(fromX, toX) - reach)); column < right; column++) {
      const [x, y] = [column + 0.5, row + 0.5];
      let way = square > 0 ? ((x - fromX) * alongX + (y - fromY) * alongY) / square : 0;
      way = Math.min(Math.max(way, 0), 1);
      const offX = x - (fromX + way * alongX), offY = y - (fromY + way * alongY);
      const radius = (fromWidth + way * alongWidth) / 2;
      const cover = Math.min(Math.max(radius + 0.5 - Math.sqrt(offX * offX + offY * offY), 0), 1);
      const dot = row * width + column;
      if (cover > values[dot]) values[dot] = cover;
    }
  }
}

// Without the empty rows and columns around the digit.
function trimmed({ width, height, values }) {
  let [left, right, top, bottom] = [width, 0, height, 0];
  values.forEach((value, i) => {
    if (value === 0) return;
    const [row, column] = [Math.floor(i / width), i % width];
    [left, right, top, bottom] =
      [Math.min(left, column), Math.max(right, column + 1), Math.min(top, row), Math.max(bottom, row + 1)];
  });
  const cut = new Float64Array((right - left) * (bottom - top));
  for (let row = top; row < bottom; row++) {
    cut.set(values.subarray(row * width + left, row * width + right), (row - top) * (right - left));
  }
  return { width: right - left, height: bottom - top, values: cut };
}

// Scaled to 20 pixels in the longer direction, antialiased, with the strongest pixel 1.
function fitted({ width, height, values }) {
  const longest = Math.max(width, height);
  const [newWidth, newHeight] = [width, height].map((length) => Math.max(1, rounded((BOX * length) / longest)));
  const wide = resized(Float32Array.from(values), width, height, newWidth);
  const turned = transposed(wide, newWidth, height);
  const small = transposed(resized(turned, height, newWidth, newHeight), newHeight, newWidth);
  const most = small.reduce((a, b) => Math.max(a, b), 0);
  return { width: newWidth, height: newHeight, values: small.map((value) => Math.max(value, 0) / most) };
}

// Every row of an image (float32) scaled to another length, by cubic convolution as in Pillow: each new pixel is a sum
// of the old ones around it; if rows become shorter, the cubic becomes wider by the same factor. Robert Keys, Cubic
// convolution interpolation for digital image processing (1981), with a = -0.5.
function resized(values, width, height, newWidth) {
  const result = new Float32Array(newWidth * height);
  const scale = width / newWidth, wider = Math.max(scale, 1);
  for (let column = 0; column < newWidth; column++) {
    const centre = (column + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - 2 * wider + 0.5));
    const last = Math.min(width, Math.trunc(centre + 2 * wider + 0.5));
    const shares = [];
    for (let x = first; x < last; x++) shares.push(cubic((x - centre + 0.5) * (1 / wider)));
    const total = shares.reduce((a, b) => a + b, 0);
    for (let row = 0; row < height; row++) {
      let sum = 0;
      for (let i = 0; i < shares.length; i++) sum += values[row * width + first + i] * (shares[i] * (1 / total));
      result[row * newWidth + column] = sum;
    }
  }
  return result;
}

function cubic(x) {
  x = Math.abs(x);
  if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
  return x < 2 ? (((x - 5) * x + 8) * x - 4) * -0.5 : 0;
}

function transposed(values, width, height) {
  return values.map((_, i) => values[(i % height) * width + Math.floor(i / height)]);
}

// The digit in the whole field, its centre of mass as near the middle as whole pixels and the field allow.
function centred({ width, height, values }) {
  const levels = values.map((value) => rounded(Math.fround(255 * value)));
  let [mass, massX, massY] = [0, 0, 0];
  levels.forEach((level, i) => {
    mass += level;
    massX += level * (i % width);
    massY += level * Math.floor(i / width);
  });
  const start = (centre, length) => Math.min(Math.max(0, rounded(SIDE / 2 - centre)), SIDE - length);
  const [left, top] = [start(massX / mass, width), start(massY / mass, height)];
  const field = new Uint8Array(SIDE * SIDE);
  for (let row = 0; row < height; row++) {
    field.set(levels.subarray(row * width, (row + 1) * width), (top + row) * SIDE + left);
  }
  return field;
}
