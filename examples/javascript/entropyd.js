// A client of entropyd: its models, and arrays to bit strings and back.
//
// Messages are plain objects with the names of the proto files. Arrays are typed arrays in row-major order, beside
// their shapes.

import { endianness } from "node:os";
import { fileURLToPath } from "node:url";

import grpc from "@grpc/grpc-js";
import protoLoader from "@grpc/proto-loader";

import { crc32c } from "./crc32c.js";

if (endianness() !== "LE") throw new Error("typed arrays are sent as they are, which takes a little-endian machine");

const folder = (path) => fileURLToPath(new URL(path, import.meta.url));
const proto = protoLoader.loadSync(
  ["entropyd/v1/coding.proto", "entropyd/v1/info.proto", "entropyd/v1/model.proto", "errors.proto"],
  {
    includeDirs: [folder("../../proto"), folder(".")],
    keepCase: true,
    longs: Number,
    enums: String,
    defaults: true,
    arrays: true,
    oneofs: true,
  },
);

/** Turns CompressedTensor messages into bytes and back: `serialize` and `deserialize`. */
export const { serialize, deserialize } = proto["entropyd.v1.CompressedTensor"];

const ARRAYS = {
  D_TYPE_FLOAT32: Float32Array,
  D_TYPE_FLOAT64: Float64Array,
  D_TYPE_INT32: Int32Array,
  D_TYPE_INT16: Int16Array,
  D_TYPE_INT8: Int8Array,
};
// How a result of the arithmetic of a bottleneck_dtype is rounded.
const ROUND = { D_TYPE_FLOAT32: Math.fround, D_TYPE_FLOAT64: (value) => value };
// Where the row of a symbol, and so its offset, follow from its position.
const BY_POSITION = ["continuous_batched", "tabulated"];

/**
 * A call that failed.
 *
 * `code` is the gRPC status, as in "NOT_FOUND"; `reason` the one of docs/errors.md, "" where gRPC itself
 * failed; `metadata` its values by name; `violations` the wrong fields, each with `field` and `description`;
 * `retryAfterSeconds` the wait before another attempt, if the server named one.
 */
export class EntropydError extends Error {
  constructor(message, { code, reason = "", metadata = {}, violations = [], retryAfterSeconds }) {
    super(message);
    this.name = "EntropydError";
    Object.assign(this, { code, reason, metadata, violations, retryAfterSeconds });
  }

  /** Of the error that gRPC made. */
  static of({ code, details, metadata }) {
    const found = { code: grpc.status[code] };
    const [bytes] = metadata.get("grpc-status-details-bin");
    for (const { type_url, value } of bytes ? proto["google.rpc.Status"].deserialize(bytes).details : []) {
      const type = type_url.slice(type_url.lastIndexOf("/") + 1);
      const detail = proto[type]?.deserialize(value);
      if (type === "google.rpc.ErrorInfo") Object.assign(found, { reason: detail.reason, metadata: detail.metadata });
      if (type === "google.rpc.BadRequest") found.violations = detail.field_violations;
      if (type === "google.rpc.RetryInfo") {
        found.retryAfterSeconds = detail.retry_delay.seconds + detail.retry_delay.nanos / 1e9;
      }
    }
    return new EntropydError(details.replace(/\s*Resolution note:\s*$/, ""), found); // often empty, in grpc-js 1.14
  }
}

/**
 * A connection to a server, made by `connect`. Methods throw EntropydError.
 *
 * `info` is what the server says of itself: GetServerInfoResponse.
 */
export class EntropydClient {
  #connection;
  #timeoutMs;
  #models = new Map();

  /** Connects to "HOST:PORT" or "unix:PATH"; each call may take `timeoutMs`. */
  static async connect(target, { credentials = grpc.credentials.createInsecure(), timeoutMs = 60_000 } = {}) {
    const asking = new EntropydClient(target, credentials, timeoutMs, {});
    try {
      const info = await asking.#call("InfoService", "GetServerInfo", {});
      return new EntropydClient(target, credentials, timeoutMs, info);
    } finally {
      asking.close();
    }
  }

  constructor(target, credentials, timeoutMs, info) {
    this.info = info;
    this.#timeoutMs = timeoutMs;
    // gRPC refuses messages of more than 4 MiB unless told otherwise.
    const bytes = info.limits?.max_message_bytes ?? 4 * 1024 * 1024;
    this.#connection = new grpc.Client(target, credentials, {
      "grpc.max_send_message_length": bytes,
      "grpc.max_receive_message_length": bytes,
    });
  }

  close() {
    this.#connection.close();
  }

  /** All models, page by page. */
  async *models() {
    for (let page_token = ""; ; ) {
      const page = await this.#call("ModelService", "ListModels", { page_token });
      yield* page.models;
      page_token = page.next_page_token;
      if (!page_token) return;
    }
  }

  /** The model of a ModelConfig, which the server makes unless it has it. */
  async createModel(config) {
    return (await this.#call("ModelService", "CreateModel", { config })).model;
  }

  /**
   * Compresses values, which this client quantizes, of a shape: batch axes, then the coding_rank axes of a unit.
   *
   * Returns a CompressResponse: `compressed`, whose checksums were compared, and `rate`.
   */
  async compress(modelId, values, shape) {
    const { dtype, priorShape, offsets } = await this.#model(modelId);
    const array = ARRAYS[dtype].from(values);
    // What has no symbols is sent as it is, so that the server says what is wrong with it; and so is an axis of length 1
    // that the server repeats, with several offsets.
    const whole = priorShape.every((axis, i) => shape.at(i - priorShape.length) === axis);
    const symbols = this.info.symbols && whole ? quantize(array, offsets, dtype) : null;
    const request = { model_id: modelId, bottleneck: toTensor(symbols ?? array, shape) };
    const response = await this.#call("CodingService", "Compress", request);
    checkBlocks(response.compressed);
    return response;
  }

  /** Restores the array of a CompressedTensor: `{ values, shape }`. */
  async decompress(compressed) {
    checkBlocks(compressed);
    const { dtype, offsets } = await this.#model(compressed.model_id);
    const request = { compressed, symbols: this.info.symbols };
    const { tensor } = await this.#call("CodingService", "Decompress", request, compressed.model_id);
    const array = fromTensor(tensor);
    const values = tensor.dtype === dtype ? array : dequantize(array, offsets, dtype);
    return { values, shape: tensor.shape };
  }

  /** What quantization needs of a model; a model never changes. */
  async #model(model_id) {
    if (!this.#models.has(model_id)) this.#models.set(model_id, await this.#load(model_id));
    return this.#models.get(model_id);
  }

  async #load(model_id) {
    const { config, prior_shape: priorShape } = (await this.#call("ModelService", "GetModel", { model_id })).model;
    const { bottleneck_dtype: dtype, row_by } = config[config.kind];
    if (!BY_POSITION.includes(config.kind) || row_by === "ROW_BY_INDEX" || !(dtype in ROUND)) {
      const found = `${config.kind}, ${row_by ?? "ROW_BY_POSITION"}, ${dtype}`;
      const known = `${BY_POSITION.join(" or ")}, ROW_BY_POSITION, ${Object.keys(ROUND).join(" or ")}`;
      throw new EntropydError(`model ${model_id} is ${found}; this client codes ${known}`, { code: "UNIMPLEMENTED" });
    }
    const { tables } = await this.#call("ModelService", "GetTables", { model_id });
    const offsets = tables.quantization_offset ? fromTensor(tables.quantization_offset) : [0];
    return { dtype, priorShape, offsets };
  }

  #call(service, method, request, model = request.model_id) {
    const { path, requestSerialize, responseDeserialize } = proto[`entropyd.v1.${service}`][method];
    const metadata = new grpc.Metadata();
    if (model) metadata.set("entropyd-model", model); // a proxy may route by it
    const options = { deadline: Date.now() + this.#timeoutMs };
    return new Promise((resolve, reject) => {
      const settle = (error, response) => (error ? reject(EntropydError.of(error)) : resolve(response));
      this.#connection.makeUnaryRequest(
        path, requestSerialize, responseDeserialize, request, metadata, options, settle,
      );
    });
  }
}

/**
 * The symbols of values: round(value - offset), ties to even, in the narrowest of int8, int16 and int32.
 *
 * `offsets` are those of the rows, and repeat. null where a value has no symbol: NaN, infinities, and what int32 does
 * not hold.
 */
export function quantize(values, offsets, dtype) {
  const round = ROUND[dtype];
  const symbols = new Int32Array(values.length);
  let [least, most] = [0, 0];
  for (let i = 0; i < values.length; i++) {
    const symbol = roundHalfToEven(round(values[i] - offsets[i % offsets.length]));
    symbols[i] = symbol;
    if (symbols[i] !== symbol + 0) return null; // + 0: -0 is 0
    least = Math.min(least, symbol);
    most = Math.max(most, symbol);
  }
  const bits = [8, 16, 32].find((bits) => least >= -(2 ** (bits - 1)) && most < 2 ** (bits - 1));
  return ARRAYS[`D_TYPE_INT${bits}`].from(symbols);
}

/** The values of symbols: symbol + offset. */
export function dequantize(symbols, offsets, dtype) {
  // Typed arrays of 32 bits round what they are given.
  return ARRAYS[dtype].from(symbols, (symbol, i) => ROUND[dtype](symbol) + offsets[i % offsets.length]);
}

function roundHalfToEven(value) {
  const rounded = Math.round(value); // a half goes up
  return rounded - value === 0.5 && rounded % 2 !== 0 ? rounded - 1 : rounded;
}

/** Throws EntropydError, CORRUPT_STRING, if the bit strings of a CompressedTensor do not match its checksums. */
export function checkBlocks({ payload, lengths, blocks }) {
  let [unit, byte] = [0, 0];
  for (const block of blocks) {
    const within = Uint32Array.from(lengths.slice(unit, unit + block.units));
    const end = within.reduce((sum, length) => sum + length, byte);
    const found = crc32c(payload.subarray(byte, end), crc32c(new Uint8Array(within.buffer)));
    if (found !== block.crc32c) {
      const units = `coding units ${unit} to ${unit + block.units - 1}`;
      const [expected, other] = [block.crc32c, found].map((crc) => `0x${crc.toString(16).padStart(8, "0")}`);
      throw new EntropydError(`${units} were damaged: their CRC32C is ${other}, expected ${expected}`, {
        code: "INVALID_ARGUMENT",
        reason: "CORRUPT_STRING",
      });
    }
    unit += block.units;
    byte = end;
  }
}

/** The Tensor of a typed array. */
export function toTensor(array, shape) {
  const [dtype] = Object.entries(ARRAYS).find(([, type]) => array instanceof type);
  return { dtype, shape, data: Buffer.from(array.buffer, array.byteOffset, array.byteLength) };
}

/** The typed array of a Tensor. */
function fromTensor({ dtype, data }) {
  return new ARRAYS[dtype](data.buffer.slice(data.byteOffset, data.byteOffset + data.length));
}
