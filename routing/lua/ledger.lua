-- What every script of routing's health begins with: a hash of documents by id, a log of which changed when, and the
-- moment at which all of it was born, by which a store that was emptied is told from one where nothing happened.
-- KEYS[1] hash, KEYS[2] log (a sorted set of ids by version), KEYS[3] birth. Versions are microseconds, and only rise.

local KEPT_SECONDS = 8 * 24 * 3600
local FORGOTTEN_AFTER_US = 7 * 24 * 3600 * 1000000
local FORGOTTEN_AT_ONCE = 100

local time = redis.call('TIME')
local now_us = tonumber(time[1]) * 1000000 + tonumber(time[2])
local now = math.floor(now_us / 1000)

local last = redis.call('ZREVRANGE', KEYS[2], 0, 0, 'WITHSCORES')
local version = math.max(now_us, (tonumber(last[2]) or 0) + 1)

local function number(value)
  return string.format('%.0f', value)
end

local function put(id, document)
  redis.call('HSET', KEYS[1], id, document)
  redis.call('ZADD', KEYS[2], number(version), id)
  version = version + 1
end

local function finish()
  local old = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', number(now_us - FORGOTTEN_AFTER_US), 'LIMIT', 0, FORGOTTEN_AT_ONCE)
  for _, id in ipairs(old) do
    redis.call('HDEL', KEYS[1], id)
    redis.call('ZREM', KEYS[2], id)
  end
  redis.call('SET', KEYS[3], number(now_us), 'NX')
  for _, key in ipairs(KEYS) do
    redis.call('EXPIRE', key, KEPT_SECONDS)
  end
end
