#!/usr/bin/env bash
# memcached caches Keystone's tokens; Debian's default listens on 127.0.0.1 only.
. "$(dirname "$0")/lib.sh"

up memcached
until_ok 30 "memcached on 127.0.0.1:11211" port_open 127.0.0.1 11211
say "memcached answers"
