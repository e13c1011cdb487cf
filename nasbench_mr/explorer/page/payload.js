// Reads the block of arrays and texts that Python put into the page; nasbench_mr/explorer/payload.py writes it.

const KINDS = { u1: Uint8Array, i4: Int32Array, f4: Float32Array, f8: Float64Array };

/** Return the header, in which every reference to an array is replaced by a function that reads the array. */
export async function readPayload(base64) {
  const packed = Uint8Array.from(atob(base64.trim()), (letter) => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
  const size = new DataView(bytes.buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(4, 4 + size)));
  return { header, array: (reference) => readArray(bytes, 4 + size, reference) };
}

/** Return one array: numbers as they are, or a column of decimals as floats with NaN where one is lacking. */
function readArray(bytes, start, { type, at, count, over, lacking }) {
  const array = new KINDS[type](count);
  const out = new Uint8Array(array.buffer);
  const width = array.BYTES_PER_ELEMENT;
  for (let plane = 0; plane < width; plane++) {
    const from = start + at + plane * count;
    for (let k = 0; k < count; k++) out[k * width + plane] = bytes[from + k];
  }
  if (over === undefined) return array;
  return Float64Array.from(array, (whole) => (whole === lacking ? NaN : whole / over));
}
