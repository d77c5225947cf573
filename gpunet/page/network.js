// The network: its numbers, and the computation from an image to the probabilities of the classes.

const ACTIVATIONS = {
  sigmoid: (x) => 1 / (1 + Math.exp(-x)),
  softplus: (x) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x))), // log(1 + exp(x)), also for a large x
  softsign: (x) => x / (1 + Math.abs(x)),
  relu: (x) => Math.max(0, x),
  tanh: (x) => Math.tanh(x),
  hard_sigmoid: (x) => Math.min(1, Math.max(0, 0.2 * x + 0.5)),
  linear: (x) => x,
};

// Softmax of all sums. The largest is subtracted first: exp() of a large number would be infinite.
function softmax(sums) {
  const largest = Math.max(...sums);
  const powers = sums.map((x) => Math.exp(x - largest));
  const total = powers.reduce((a, b) => a + b, 0);
  return powers.map((power) => power / total);
}

// What every layer computes from the input (an array of numbers, 0 to 1 for black to white): [{sums, outputs}, ...].
// sum = inputs times weights, added up, and the bias; output = activation(sum).
function forward(layers, input) {
  const results = [];
  for (const { weights, bias, activation } of layers) {
    const units = bias.length;
    const sums = Float64Array.from(bias);
    for (let i = 0; i < input.length; i++) {
      const x = input[i], first = i * units; // weights has one row per input
      if (x === 0) continue; // black pixels add nothing
      for (let unit = 0; unit < units; unit++) sums[unit] += x * weights[first + unit];
    }
    const outputs = activation === "softmax" ? softmax(sums) : sums.map(ACTIVATIONS[activation]);
    results.push({ sums, outputs });
    input = outputs;
  }
  return results;
}

// The layers, from their widths and activations and all their numbers in a row: weights, bias, weights, bias, ...
function layersOf(widths, activations, numbers) {
  let start = 0;
  const take = (count) => numbers.subarray(start, (start += count));
  return activations.map((activation, layer) => {
    const [inputs, units] = [widths[layer], widths[layer + 1]];
    return { inputs, units, activation, weights: take(inputs * units), bias: take(units) };
  });
}

// Bytes from base64.
function bytesOf(text) {
  return Uint8Array.from(atob(text.trim()), (letter) => letter.charCodeAt(0));
}

// Numbers of 32 or 16 bits, lowest byte first, from base64.
function numbersOf(text, bits) {
  const bytes = bytesOf(text);
  const view = new DataView(bytes.buffer);
  const numbers = new Float32Array((8 * bytes.length) / bits);
  for (let i = 0; i < numbers.length; i++) {
    numbers[i] = bits === 16 ? half(view.getUint16(2 * i, true)) : view.getFloat32(4 * i, true);
  }
  return numbers;
}

// A 16-bit floating point number: 1 bit sign, 5 bits exponent, 10 bits fraction. None is infinite or NaN here.
function half(bits) {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = (bits & 1023) / 1024;
  return exponent === 0 ? sign * fraction * 2 ** -14 : sign * (1 + fraction) * 2 ** (exponent - 15);
}
