// Makes the calls of tests/integration/test_javascript.py with the client of examples/javascript: a line of JSON each.

import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const [library, server] = process.argv.slice(2);
const { deserialize, EntropydClient, quantize, serialize } = await import(pathToFileURL(library));
const client = await EntropydClient.connect(server);

const NUMBERS = { float32: Float32Array, float64: Float64Array, int8: Int8Array, int16: Int16Array, int32: Int32Array };
const bytesOf = (text) => Buffer.from(text, "base64");
const numbersOf = ({ dtype, data }) => new NUMBERS[dtype](Uint8Array.from(bytesOf(data)).buffer);
const textOf = (bytes) => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("base64");
const render = (array) => ({
  dtype: Object.keys(NUMBERS).find((name) => array instanceof NUMBERS[name]),
  data: textOf(array),
});

const CALLS = {
  async info({ symbols }) {
    if (symbols !== undefined) client.info.symbols = symbols;
    return client.info;
  },
  async compress({ model, x, shape }) {
    return textOf(serialize((await client.compress(model, numbersOf(x), shape)).compressed));
  },
  async decompress({ compressed }) {
    const { values, shape } = await client.decompress(deserialize(bytesOf(compressed)));
    return { ...render(values), shape };
  },
  async quantize({ x, offsets }) {
    const symbols = quantize(numbersOf(x), numbersOf(offsets), `D_TYPE_${x.dtype.toUpperCase()}`);
    return symbols && render(symbols);
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const { call, ...given } = JSON.parse(line);
  const answer = await CALLS[call](given).then(
    (result) => ({ result }),
    ({ name, code, reason, message, violations }) => ({ error: { name, code, reason, message, violations } }),
  );
  console.log(JSON.stringify(answer));
}
client.close();
