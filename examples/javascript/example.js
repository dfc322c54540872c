#!/usr/bin/env node
// Compresses and decompresses arrays through an entropyd server; --help says how.

import { readFile, writeFile } from "node:fs/promises";
import { parseArgs } from "node:util";

import grpc from "@grpc/grpc-js";

import { deserialize, EntropydClient, EntropydError, serialize, toTensor } from "./entropyd.js";

const USAGE = `Usage: node example.js [OPTIONS] [COMMAND]

Compresses and decompresses arrays through an entropyd server.

Commands:
  demo                          make a model, code an array with it, show an error (default)
  models                        list the server's models
  compress MODEL_ID IN OUT      compress the numbers in IN, which has --shape
  decompress IN OUT             restore them

Options:
  --server HOST:PORT            the server (default: $ENTROPYD_SERVER, else 127.0.0.1:7070)
  --shape N,N,...               axes of the array, outermost first
  --tls                         use TLS, with the authorities that Node.js trusts
  --ca FILE                     use TLS, with the authorities in this PEM file
  --token-file FILE             send the token in this file; takes TLS
  --help                        this text

Files of numbers are raw float32 or float64, little-endian, in row-major order. Compressed files are
entropyd.v1.CompressedTensor messages.

Examples:
  node example.js --server entropyd.example.org:7070 --tls --token-file token models
  node example.js compress MODEL_ID --shape 4,16,3 x.f32 x.compressed
  node example.js decompress x.compressed restored.f32
`;

const OPTIONS = {
  server: { type: "string", default: process.env.ENTROPYD_SERVER || "127.0.0.1:7070" },
  shape: { type: "string" },
  tls: { type: "boolean" },
  ca: { type: "string" },
  "token-file": { type: "string" },
  help: { type: "boolean" },
};

class UsageError extends Error {}

// Commands

async function demo(client, { server }) {
  const { version, roles, limits, symbols } = client.info;
  console.log(`entropyd ${version} at ${server}: ${roles.join(", ")}`);
  console.log(`takes messages of up to ${limits.max_message_bytes} bytes, and ${symbols ? "" : "no "}symbols`);
  const { model_id } = await client.createModel(laplaceConfig([0.7, 2, 5], [0, 0.25, -0.375]));
  console.log(`model ${model_id}: a row of integers for each of 3 channels`);

  const shape = [4, 16, 3]; // 4 coding units of 16 x 3
  const x = Float32Array.from({ length: 4 * 16 * 3 }, (_, i) => [0.7, 2, 5][i % 3] * laplace(i));
  const { compressed, rate } = await client.compress(model_id, x, shape);
  const bits = ((8 * rate.compressed_bytes) / rate.symbols).toFixed(2);
  console.log(`compressed ${shape.join(" x ")} float32, ${x.byteLength} bytes`);
  console.log(`to ${compressed.lengths.length} bit strings, ${rate.compressed_bytes} bytes: ${bits} bits per symbol`);
  console.log("their CRC32C is right");

  const restored = await client.decompress(compressed);
  const errors = restored.values.map((value, i) => Math.abs(value - x[i]));
  console.log(`restored ${restored.shape.join(" x ")}, largest error ${Math.max(...errors).toFixed(3)}`);

  x[7] = NaN;
  console.log("an array with a NaN:");
  await client.compress(model_id, x, shape).catch((error) => console.log(explained(error)));
}

async function models(client) {
  for await (const { model_id, config, prior_shape } of client.models()) {
    console.log(`${model_id}  ${config.kind}  [${prior_shape.join(", ")}]`);
  }
}

async function compress(client, { shape }, modelId, source, target) {
  if (!/^\d+(,\d+)*$/.test(shape ?? "")) throw new UsageError("compress takes --shape N,N,...");
  const axes = shape.split(",").map(Number);
  const { buffer, byteOffset, byteLength } = await readFile(source);
  const bytes = byteLength / axes.reduce((product, axis) => product * axis, 1);
  const Numbers = { 4: Float32Array, 8: Float64Array }[bytes];
  if (!Numbers) throw new UsageError(`${source} has ${bytes} bytes for each element of ${shape}, expected 4 or 8`);
  const values = new Numbers(buffer.slice(byteOffset, byteOffset + byteLength));
  const { compressed, rate } = await client.compress(modelId, values, axes);
  await writeFile(target, serialize(compressed));
  console.log(`${target}: ${rate.symbols} symbols in ${rate.compressed_bytes} bytes`);
}

async function decompress(client, _, source, target) {
  const { values, shape } = await client.decompress(parsed(await readFile(source), source));
  await writeFile(target, values);
  console.log(`${target}: ${shape.join(" x ")}, ${8 * values.BYTES_PER_ELEMENT} bits each`);
}

function parsed(bytes, source) {
  try {
    return deserialize(bytes);
  } catch {
    throw new UsageError(`${source} is no CompressedTensor; \`compress\` makes one`);
  }
}

const COMMANDS = { demo, models, compress, decompress };

// The model and the numbers of the demo

/** A TabulatedConfig whose rows, one for each scale, cover -20 to 20 with the frequencies of a Laplace density. */
function laplaceConfig(scales, quantizationOffsets) {
  const rows = scales.map((scale) => {
    const weights = Array.from({ length: 41 }, (_, i) => Math.exp(-Math.abs(i - 20) / scale));
    const sum = weights.reduce((total, weight) => total + weight);
    // Each of the 41 integers, and the escape that codes all others, has a frequency of 1 at least.
    const row = [-16, 0];
    for (const weight of weights) row.push(row.at(-1) + 1 + Math.floor(((65536 - 42) * weight) / sum));
    return [...row, 65536];
  });
  const vector = (Numbers, values) => toTensor(Numbers.from(values), [values.length]);
  return {
    tabulated: {
      tables: { cdf: vector(Int32Array, rows.flat()), cdf_offset: vector(Int32Array, scales.map(() => -20)) },
      coding_rank: 2,
      quantization_offset: vector(Float32Array, quantizationOffsets),
    },
  };
}

/** A number of a Laplace distribution, the same for the same i. */
function laplace(i) {
  const uniform = ((Math.imul(i + 1, 0x9e3779b1) >>> 0) + 0.5) / 2 ** 32 - 0.5;
  return -Math.sign(uniform) * Math.log(1 - 2 * Math.abs(uniform));
}

// The command line

/** What a person should read of an error: its reason, and each wrong field or else the message. */
function explained({ code, reason, message, violations, retryAfterSeconds }) {
  const wrong = violations.map(({ field, description }) => `${field}: ${description}`);
  const lines = [reason ? `${reason} (${code})` : code, ...(wrong.length ? wrong : [message])];
  if (retryAfterSeconds) lines.push(`try again in ${retryAfterSeconds} s`);
  return lines.join("\n  ");
}

async function credentials({ tls, ca, "token-file": tokenFile }) {
  const channel = tls || ca ? grpc.credentials.createSsl(ca && (await readFile(ca))) : grpc.credentials.createInsecure();
  if (!tokenFile) return channel;
  if (!tls && !ca) throw new UsageError("--token-file takes --tls or --ca: a token is not sent in the clear");
  const metadata = new grpc.Metadata();
  metadata.set("authorization", `Bearer ${(await readFile(tokenFile, "utf8")).trim()}`);
  const token = grpc.credentials.createFromMetadataGenerator((_, done) => done(null, metadata));
  return grpc.credentials.combineChannelCredentials(channel, token);
}

async function main() {
  const { values: options, positionals } = parse();
  if (options.help) return console.log(USAGE);
  const [name = "demo", ...operands] = positionals;
  const command = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
  if (!command) throw new UsageError(`no command ${name}; there are ${Object.keys(COMMANDS).join(", ")}`);
  const taken = Math.max(command.length - 2, 0);
  if (operands.length !== taken) throw new UsageError(`${name} takes ${taken} operands, found ${operands.length}`);
  const client = await EntropydClient.connect(options.server, { credentials: await credentials(options) });
  try {
    await command(client, options, ...operands);
  } finally {
    client.close();
  }
}

function parse() {
  try {
    return parseArgs({ options: OPTIONS, allowPositionals: true });
  } catch (error) {
    throw new UsageError(error.message);
  }
}

try {
  await main();
} catch (error) {
  if (error instanceof EntropydError) console.error(explained(error));
  else if (error instanceof UsageError) console.error(`${error.message}\nnode example.js --help lists all`);
  else if (error.syscall) console.error(error.message); // a file that cannot be read or written
  else throw error;
  process.exitCode = error instanceof UsageError ? 2 : 1;
}
