// The other thread of a shared duplex, from the built package: it sends, receives, echoes or hangs. See
// shared-threads.test.ts, which says what to do and checks what comes of it.
import { parentPort, workerData } from "node:worker_threads";

import { attachSharedDuplex, CLOSED } from "../dist/index.js";

const { handle, side, mode, count, batch } = workerData;

const numberCodec = {
  encode(value, target) {
    target.setFloat64(0, value, true);
    return 8;
  },
  decode: (source) => source.getFloat64(0, true),
};
const end = attachSharedDuplex(handle, side, { codecs: { tx: numberCodec, rx: numberCodec } });

function send() {
  for (let value = 0; value < count; value++) {
    if (end.sendSync(value) !== "sent") throw new Error(`not sent: ${value}`);
  }
  end.close();
}

/** Values in batches; sleeps only when the ring is full. */
function sendBatches() {
  const values = Array.from({ length: count }, (_, value) => value);
  for (let next = 0; next < count; next++) {
    if (end.sendSync(values[next]) !== "sent") throw new Error(`not sent: ${next}`);
    next += end.trySendMany(values.slice(next + 1, next + 1 + batch));
  }
  end.tx.close();
  parentPort.postMessage(end.recvSync());
}

/** The sum of what comes, in its order. */
function receive() {
  let expected = 0;
  const visit = (value) => {
    if (value !== expected) throw new Error(`received ${value} instead of ${expected}`);
    expected += 1;
  };
  for (let value = end.recvSync(); value !== CLOSED; value = end.recvSync()) {
    visit(value);
    end.tryRecvMany(batch, visit);
  }
  end.sendSync(expected);
  end.close();
}

function echo() {
  for (let value = end.recvSync(); value !== CLOSED; value = end.recvSync()) {
    if (end.sendSync(value) !== "sent") throw new Error(`not sent: ${value}`);
  }
  end.close();
}

/** On the event loop, both ways at once. */
async function exchange() {
  const sending = (async () => {
    for (let value = 0; value < count; value++) await end.send(value);
    end.tx.close();
  })();
  let expected = 0;
  for await (const value of end) {
    if (value !== expected) throw new Error(`received ${value} instead of ${expected}`);
    expected += 1;
  }
  await sending;
  parentPort.postMessage(expected);
}

/** Times out on a full ring, then waits until there is room. */
function fill() {
  const outcomes = [];
  for (let value = 0; value < count; value++) outcomes.push(end.sendSync(value));
  outcomes.push(end.sendSync(count, 50));
  parentPort.postMessage(outcomes);
  parentPort.postMessage(end.sendSync(count));
  parentPort.postMessage(end.sendSync(count + 1));
}

function hang() {
  end.sendSync(1);
  end.recvSync();
}

await { send, sendBatches, receive, echo, exchange, fill, hang }[mode]();
