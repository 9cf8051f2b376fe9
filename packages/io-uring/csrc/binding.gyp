# Kept out of the package root on purpose: npm and pnpm would otherwise add a `node-gyp rebuild` of their own to every
# installation. scripts/build-native.mjs is what runs this.
{
  "targets": [
    {
      "target_name": "io-uring",
      "sources": ["module.c", "ring-table.c", "ring.c", "poll.c", "files.c", "memory.c", "faults.c"],
      "cflags": ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror=implicit-function-declaration", "-fvisibility=hidden"],
      # Node unloads an addon with the last thread that uses it, and the process's rings would be gone with it.
      "ldflags": ["-Wl,-z,nodelete"],
    }
  ]
}
