"""The Lua scripts. Each runs as a whole or not at all, in one partition, and may run twice.

A server undoes nothing of a script that fails. What it may refuse (XADD, when its memory is
full) comes before all else that a script writes, and so does a look at each key that may hold
another type. Numbers are read by `whole`, which gives nil for what is none.

lease   hash    owner, stream, opened, last (the last frame), bytes (of all frames)
t       string  milliseconds since 1970 by the server's clock
"""

from __future__ import annotations

from cfw.valkey._names import FIRST_ID, LAST_ID, NOTHING_ID

_NOW = """
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local function t(ms) return string.format('%.0f', ms) end
"""

_WHOLE = """
local function whole(text)
  if text and #text < 16 and string.find(text, '^%d+$') then return tonumber(text) end
end
"""

#: KEYS lease, deadlines, frames, index
#: ARGV capture_id, owner, lease_ms, keep_ms, opened, index length
BEGIN = f"""{_NOW}
local owner = redis.call('HGET', KEYS[1], 'owner')
if owner == ARGV[2] then return 'OK' end
local deadline = redis.call('ZSCORE', KEYS[2], ARGV[1])
if owner then
  if not deadline then
    -- Whoever owns it renews it soon, or it runs out.
    redis.call('ZADD', KEYS[2], t(now + tonumber(ARGV[3])), ARGV[1])
  elseif tonumber(deadline) <= now then
    return 'EXPIRED'
  end
  return 'TAKEN'
end
redis.call('XLEN', KEYS[4])
redis.call('XADD', KEYS[3], '{FIRST_ID}', 'message', ARGV[5])
redis.call('PEXPIRE', KEYS[3], ARGV[4])
redis.call('HSET', KEYS[1], 'owner', ARGV[2], 'stream', KEYS[3], 'opened', ARGV[5],
  'last', '0', 'bytes', '0')
redis.call('PEXPIRE', KEYS[1], ARGV[4])
redis.call('ZADD', KEYS[2], t(now + tonumber(ARGV[3])), ARGV[1])
redis.call('XADD', KEYS[4], 'MAXLEN', '~', ARGV[6], '*',
  'capture_id', ARGV[1], 'stream', KEYS[3])
return 'OK'
"""

#: KEYS lease, deadlines, frames
#: ARGV capture_id, owner, lease_ms, keep_ms, length, first seq, then message, jpeg, ...
APPEND = f"""{_NOW}{_WHOLE}
local lease = redis.call('HMGET', KEYS[1], 'owner', 'last', 'bytes')
if lease[1] ~= ARGV[2] then return 'LOST' end
local first, count = tonumber(ARGV[6]), (#ARGV - 6) / 2
local last, bytes = whole(lease[2]), whole(lease[3])
if not last or not bytes then return 'BROKEN' end
redis.call('ZSCORE', KEYS[2], ARGV[1])
if last == first + count - 1 then return 'OK' end
if last ~= first - 1 then return 'TAIL' end
for i = 0, count - 1 do
  local jpeg = ARGV[8 + 2 * i]
  local id = redis.call('XADD', KEYS[3], 'NOMKSTREAM', 'MAXLEN', '~', ARGV[5],
    t(first + i) .. '-0', 'message', ARGV[7 + 2 * i], 'jpeg', jpeg)
  if not id then return 'TAIL' end
  bytes = bytes + #jpeg
end
redis.call('HSET', KEYS[1], 'last', t(first + count - 1), 'bytes', t(bytes))
redis.call('PEXPIRE', KEYS[1], ARGV[4])
redis.call('PEXPIRE', KEYS[3], ARGV[4])
redis.call('ZADD', KEYS[2], t(now + tonumber(ARGV[3])), ARGV[1])
return 'OK'
"""

#: KEYS lease, deadlines, frames; ARGV capture_id, owner, lease_ms, keep_ms
RENEW = f"""{_NOW}
if redis.call('HGET', KEYS[1], 'owner') ~= ARGV[2] then return 'LOST' end
redis.call('PEXPIRE', KEYS[1], ARGV[4])
redis.call('PEXPIRE', KEYS[3], ARGV[4])
redis.call('ZADD', KEYS[2], t(now + tonumber(ARGV[3])), ARGV[1])
return 'OK'
"""

#: KEYS lease, deadlines, frames
#: ARGV capture_id, owner, keep_ms, terminal, the last frame there must be or -1 for any
FINISH = f"""
local lease = redis.call('HMGET', KEYS[1], 'owner', 'last')
if lease[1] ~= ARGV[2] then
  local ending = redis.call('XREVRANGE', KEYS[3], '{LAST_ID}', '{LAST_ID}')[1]
  if ending and ending[2][2] == ARGV[4] then return 'OK' end
  return 'LOST'
end
if ARGV[5] ~= '-1' and lease[2] ~= ARGV[5] then return 'TAIL' end
local id = redis.call('XADD', KEYS[3], 'NOMKSTREAM', '{LAST_ID}', 'message', ARGV[4])
redis.call('PEXPIRE', KEYS[3], ARGV[3])
redis.call('DEL', KEYS[1])
redis.call('ZREM', KEYS[2], ARGV[1])
return id and 'OK' or 'TAIL'
"""

#: KEYS deadlines; ARGV at most so many
EXPIRED = f"""{_NOW}
return redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', t(now), 'LIMIT', '0', ARGV[1])
"""

#: KEYS lease, deadlines, frames; ARGV capture_id, owner, keep_ms, terminal, last
SEAL = f"""{_NOW}
local deadline = redis.call('ZSCORE', KEYS[2], ARGV[1])
if not deadline or tonumber(deadline) > now then return 0 end
local lease = redis.call('HMGET', KEYS[1], 'owner', 'last')
if lease[1] ~= ARGV[2] or lease[2] ~= ARGV[5] then return 0 end
local id = redis.pcall('XADD', KEYS[3], 'NOMKSTREAM', '{LAST_ID}', 'message', ARGV[4])
if type(id) == 'table' and id.err then
  -- Somebody else has written behind the last frame: it takes no terminal any more.
  if not string.find(id.err, 'last possible ID', 1, true) then return id end
  id = false
end
redis.call('PEXPIRE', KEYS[3], ARGV[3])
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('DEL', KEYS[1])
return id and 1 or 0
"""

#: KEYS lease, deadlines, where a lease is put that cannot be read; ARGV capture_id, keep_ms
#: Not if the capture_id has been taken again meanwhile. Answers 0 when there was nothing to do,
#: 1 for a name without a lease, 2 for both.
PUT_ASIDE = f"""{_NOW}
local deadline = redis.call('ZSCORE', KEYS[2], ARGV[1])
if not deadline or tonumber(deadline) > now then return 0 end
redis.call('ZREM', KEYS[2], ARGV[1])
if redis.call('EXISTS', KEYS[1]) == 0 then return 1 end
redis.call('RENAME', KEYS[1], KEYS[3])
redis.call('PEXPIRE', KEYS[3], ARGV[2])
return 2
"""

#: KEYS a key and where it is put, for each; ARGV keep_ms, then the type that each must have
#: Answers with the keys that had another one and are put aside.
SORT_OUT = """
local found = {}
for i = 1, #KEYS, 2 do
  local kind = redis.call('TYPE', KEYS[i]).ok
  if kind ~= 'none' and kind ~= ARGV[(i + 3) / 2] then
    redis.call('RENAME', KEYS[i], KEYS[i + 1])
    redis.call('PEXPIRE', KEYS[i + 1], ARGV[1])
    found[#found + 1] = KEYS[i]
  end
end
return found
"""

# --- consumers: a group on the index of each partition ----------------------------------------

#: KEYS index; ARGV group, the id behind which a new group begins
#: Answers with the last id of the index, and whether the group is a new one.
JOIN = f"""
local made = redis.pcall('XGROUP', 'CREATE', KEYS[1], ARGV[1], ARGV[2], 'MKSTREAM')
if made.err and not string.find(made.err, 'BUSYGROUP', 1, true) then return made end
local newest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', '1')[1]
return {{newest and newest[1] or '{NOTHING_ID}', made.err and 0 or 1}}
"""

#: KEYS index; ARGV group, consumer, at most. Captures that nobody of the group has had.
TAKE = """
local found = redis.call('XREADGROUP', 'GROUP', ARGV[1], ARGV[2], 'COUNT', ARGV[3],
  'STREAMS', KEYS[1], '>')
return found and found[1] and found[1][2] or {}
"""

#: KEYS index; ARGV group, consumer, at most. Captures this consumer had before it was gone.
RESUME = """
local found = {}
for _, item in ipairs(redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', ARGV[3], ARGV[2])) do
  local entry = redis.call('XRANGE', KEYS[1], item[1], item[1])[1]
  if entry then
    found[#found + 1] = entry
  else
    redis.call('XACK', KEYS[1], ARGV[1], item[1])
  end
end
return found
"""

#: KEYS index; ARGV group, consumer, at most, idle_ms. Captures of consumers that are silent.
CLAIM = """
return redis.call('XAUTOCLAIM', KEYS[1], ARGV[1], ARGV[2], ARGV[4], '0-0',
  'COUNT', ARGV[3])[2]
"""

#: KEYS index, then the stream of each; ARGV group, consumer, then the index id of each
#: Answers for each: 1 still this consumer's, 0 another's, -1 the stream has expired.
KEEP = """
local states = {}
for i = 2, #KEYS do
  local id = ARGV[i + 1]
  local item = redis.call('XPENDING', KEYS[1], ARGV[1], id, id, '1')[1]
  if item and item[2] ~= ARGV[2] then
    states[#states + 1] = 0
  elseif redis.call('EXISTS', KEYS[i]) == 0 then
    redis.call('XACK', KEYS[1], ARGV[1], id)
    states[#states + 1] = -1
  elseif not item then
    states[#states + 1] = 0
  else
    redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], '0', id, 'JUSTID')
    states[#states + 1] = 1
  end
end
return states
"""

#: KEYS progress, stream. The id of the last entry that was processed, and the first entry.
REACHED = f"""
return {{
  redis.call('HGET', KEYS[1], KEYS[2]),
  redis.call('XRANGE', KEYS[2], '{FIRST_ID}', '{FIRST_ID}')[1] or false,
}}
"""

#: KEYS progress; ARGV stream, entry id, keep_ms
PROCESSED = """
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 'OK'
"""

#: KEYS index, progress; ARGV group, index id, stream
DONE = """
redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])
redis.call('HDEL', KEYS[2], ARGV[3])
return 'OK'
"""
