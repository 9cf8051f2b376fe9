// Loaded into a process of the server before its own code: once the file FAILING_SYNC_MARKER exists, every fdatasync
// of a file below the directory that it names fails as on a broken disk. Linux only: it asks /proc for the file's path.
import fs from "node:fs";
import { syncBuiltinESMExports } from "node:module";

const marker = process.env["FAILING_SYNC_MARKER"] ?? "";
const { fdatasync } = fs;

function isBroken(descriptor) {
  if (!fs.existsSync(marker)) return false;
  const directory = fs.readFileSync(marker, "utf8");
  return fs.readlinkSync(`/proc/self/fd/${descriptor}`).startsWith(`${directory}/`);
}

fs.fdatasync = (descriptor, callback) => {
  if (!isBroken(descriptor)) fdatasync(descriptor, callback);
  else callback(Object.assign(new Error("EIO: i/o error, fdatasync"), { code: "EIO", syscall: "fdatasync" }));
};
syncBuiltinESMExports();
