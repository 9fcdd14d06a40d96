-- What changed in one hash since a version. ARGV[1] the version; `-inf` tells all.
-- Returns the moment in ms, the birth (empty when there is nothing), the newest version, then id and document in turns.

local newest = last[2] or '0'
local told = { number(now), redis.call('GET', KEYS[3]) or '', newest }
local since = ARGV[1] == '-inf' and '-inf' or '(' .. ARGV[1]
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], since, '+inf')) do
  local document = redis.call('HGET', KEYS[1], id)
  if document then
    told[#told + 1] = id
    told[#told + 1] = document
  end
end
return told
