// Loaded into a process of the server before its own code: once the file FAILING_SYNC_MARKER exists, every durable write and
// every sync of a file below the directory that it names fails as on a broken disk. It takes the place of the calls of
// @millrace/aio, because nothing that is loaded into a process reaches what io_uring does.
import { constants, existsSync, readFileSync } from "node:fs";
import { IoEngine } from "@millrace/aio";

const marker = process.env["FAILING_SYNC_MARKER"] ?? "";
const EIO = 5;
const open = Reflect.get(IoEngine.prototype, "open");

function isBroken(path) {
  return existsSync(marker) && path.startsWith(`${readFileSync(marker, "utf8")}/`);
}

IoEngine.prototype.open = async function openBreakable(path, options) {
  const file = await open.call(this, path, options);
  const writeRaw = file.writeRaw.bind(file);
  const sync = file.sync.bind(file);
  const isDataSync = typeof options?.flags === "number" && (options.flags & constants.O_DSYNC) !== 0;
  file.writeRaw = (source, offsetBytes, done, token) => {
    if (isDataSync && isBroken(path)) queueMicrotask(() => done(-EIO, token));
    else writeRaw(source, offsetBytes, done, token);
  };
  file.sync = async (dataOnly) => {
    if (isBroken(path)) throw Object.assign(new Error("EIO: i/o error, fsync"), { errnoName: "EIO" });
    await sync(dataOnly);
  };
  return file;
};
