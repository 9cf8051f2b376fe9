import { tmpdir } from "node:os";
import { expect, test } from "vitest";
import { describeMachine, mountOf } from "../src/machine.js";
import { repositoryRoot } from "../src/repository.js";

const MOUNTS = `21 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
22 21 0:5 / /dev rw - devtmpfs devtmpfs rw
30 21 254:16 / /data rw shared:9 master:2 - xfs /dev/vdb rw
31 30 254:32 / /data/with\\040space rw - btrfs /dev/vdc rw
32 21 0:40 / /data rw - tmpfs tmpfs rw
`;

// Aim: the figures are attributed to the right device. Method: nested, escaped and hidden mounts.
test("the mount of a path is the innermost and latest one", () => {
  expect(mountOf(MOUNTS, "/home/x")).toEqual({ fileSystem: "ext4", device: "/dev/vda" });
  expect(mountOf(MOUNTS, "/database")).toEqual({ fileSystem: "ext4", device: "/dev/vda" });
  expect(mountOf(MOUNTS, "/data/x")).toEqual({ fileSystem: "tmpfs", device: "tmpfs" });
  expect(mountOf(MOUNTS, "/data/with space")).toEqual({ fileSystem: "btrfs", device: "/dev/vdc" });
  expect(mountOf("", "/")).toBeUndefined();
});

// Aim: a results file says where it comes from. Method: describe this machine.
test("this machine has a description without gaps", () => {
  const machine = describeMachine(tmpdir(), repositoryRoot());
  expect(machine).toMatchObject({ node: process.version, cores: expect.any(Number) });
  expect(machine.cpu).not.toBe("");
  expect(machine.memoryBytes).toBeGreaterThan(0);
  expect(Date.parse(machine.date)).not.toBeNaN();
  expect(describeMachine("/nonexistent", "/")).toMatchObject({ fileSystem: "unknown", commit: "unknown" });
});
