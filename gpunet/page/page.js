// Sets the page up: reads what gpunet wrote into it, and computes and paints again after every change.

const QUIET = 500; // milliseconds without a change, after which the result is announced

function start() {
  const description = JSON.parse(byId("description").textContent);
  const { widths, activations, bits } = description;
  const layers = layersOf(widths, activations, numbersOf(byId("numbers").textContent, bits));
  const state = { description, layers, input: null, results: null, example: null, selected: { layer: 0, unit: 0 } };
  const sheet = new Sheet(byId("sheet"), () => { state.example = null; changed(); }, announce);
  let waiting = false, announcement = 0;

  // Several changes between two frames of the screen are computed once.
  function changed() {
    clearTimeout(announcement);
    announcement = setTimeout(() => announce(inWords(state)), QUIET);
    repaint();
  }

  function repaint() {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; think(); paint(); });
  }

  function think() {
    const image = state.example || !description.drawable ? null : imageOfStrokes(sheet.strokes);
    state.input = state.example ? state.example.input : image && Float32Array.from(image, (level) => level / 255);
    state.results = state.input && forward(layers, state.input);
    if (state.results && !state.selected.chosen) { // nothing was selected yet: take the brightest unit
      const { outputs } = state.results[0];
      state.selected = { layer: 0, unit: outputs.indexOf(Math.max(...outputs)) };
    }
  }

  function paint() {
    if (description.drawable) sheet.paint();
    paintImage(state);
    paintFields(state);
    paintUnit(state, select);
    paintClasses(state);
    for (const each of byId("strip").querySelectorAll("button")) each.ariaPressed = String(each.example === state.example);
    byId("undo").disabled = byId("clear").disabled = sheet.strokes.length === 0 && !sheet.ghost;
  }

  function select(layer, unit) {
    if (state.selected.chosen && state.selected.layer === layer && state.selected.unit === unit) return;
    state.selected = { layer, unit, chosen: true };
    repaint();
  }

  function load(example) {
    state.example = example;
    const { width, height, low, high } = description.image;
    const values = Array.from(example.input, (x) => (x - low) / (high - low || 1));
    if (description.drawable) sheet.ghost = { values, width, height };
    changed();
  }

  introduce(description);
  makeFields(state, select);
  makeClasses(state, select);
  makeStrip(state, load);
  byId("undo").addEventListener("click", () => sheet.undo());
  byId("clear").addEventListener("click", () => sheet.clear());
  new ResizeObserver(repaint).observe(byId("main"));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
  window.thinking = { state, sheet, layers }; // to play with on the console
  if (!description.drawable && state.examples.length) load(state.examples[0]);
  else repaint();
}

function announce(text) {
  byId("announcement").textContent = text;
}

// Headings and facts, and which parts the page has.
function introduce(description) {
  const { drawable, digits, image } = description;
  document.title = byId("title").textContent = digits ? "Draw a digit, see the network think" : "See the network think";
  byId("subtitle").textContent = description.subtitle;
  byId("drawing").hidden = !drawable;
  document.body.classList.toggle("examples-first", !digits);
  const how = drawable ? "; what you draw just fits the box of 20 \u00d7 20, its centre of mass in the middle, as in MNIST" : "";
  byId("seen-hint").textContent = `${image.width} \u00d7 ${image.height} pixels${how}`;
  byId("facts").append(...description.facts.flatMap(([term, text, kind]) => [element("dt", "", term), element("dd", kind, text)]));
}

// The test images that gpunet chose, as buttons.
function makeStrip(state, load) {
  const { examples, labels, image } = state.description, size = image.width * image.height;
  const pixels = image.bits === 8 ? bytesOf(examples.images) : numbersOf(examples.images, 32);
  state.examples = examples.truths.map((truth, i) => {
    const part = pixels.subarray(i * size, (i + 1) * size);
    return { truth, guess: examples.guesses[i], share: examples.shares[i], input: Float32Array.from(part, (x) => (image.bits === 8 ? x / 255 : x)) };
  });
  byId("examples-hint").textContent = examples.hint;
  byId("examples").hidden = state.examples.length === 0;
  for (const example of state.examples) {
    const item = element("li", example.truth === example.guess ? "right" : "wrong"), button = element("button"), canvas = element("canvas");
    Object.assign(button, { type: "button", example });
    button.append(canvas, element("span", "", "is " + labels[example.truth]));
    button.append(element("span", "guess", `guess ${labels[example.guess]}`), element("span", "guess", percent(example.share)));
    button.addEventListener("click", () => load(example));
    item.append(button);
    byId("strip").append(item);
    canvas.width = image.width;
    canvas.height = image.height;
    const context = canvas.getContext("2d"), { low, high } = image;
    example.input.forEach((x, i) => {
      context.fillStyle = grey((x - low) / (high - low || 1));
      context.fillRect(i % image.width, Math.floor(i / image.width), 1, 1);
    });
  }
}

start();
