-- `after()` of routing/performance.py, for all processes at once.
-- ARGV[1] JSON list of [route, good, bad, mean_us]; ARGV[2] days; ARGV[3] weight; ARGV[4] most recent failures;
-- ARGV[5] the moment in ms, for tests; empty is now. Returns the moment, then the document of each route.

local DAYS, WEIGHT, MOST = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
if ARGV[5] ~= '' then now = tonumber(ARGV[5]) end

local today = math.floor(now / (24 * 3600 * 1000))
local told = { number(now) }
for _, batch in ipairs(cjson.decode(ARGV[1])) do
  local route, good, bad, mean_us = batch[1], batch[2], batch[3], batch[4]
  local stored = redis.call('HGET', KEYS[1], route)
  local figures = stored and cjson.decode(stored) or { days = {}, latency_us = 0, recent_failures = 0 }
  local days = {}
  for day, counts in pairs(figures.days) do
    local number_of_day = tonumber(day)
    if today - DAYS < number_of_day and number_of_day <= today then days[day] = counts end
  end
  local before = days[number(today)] or { 0, 0 }
  days[number(today)] = { before[1] + good + bad, before[2] + good }
  figures.days = days
  if good > 0 then
    if figures.latency_us == 0 then
      figures.latency_us = mean_us
    else
      local kept = (1 - WEIGHT) ^ good
      figures.latency_us = math.floor(figures.latency_us * kept + mean_us * (1 - kept) + 0.5)
    end
  end
  figures.recent_failures = math.min(MOST, math.max(0, figures.recent_failures + bad - good))
  local document = cjson.encode(figures)
  put(route, document)
  told[#told + 1] = document
end
finish()
return told
