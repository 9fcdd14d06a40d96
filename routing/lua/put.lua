-- Write documents as they are. ARGV[1] `always`, or `missing` to spare those that are there; ARGV[2] the channel to tell, or
-- empty; then id and document in turns. Returns the moment.

for place = 3, #ARGV, 2 do
  if ARGV[1] == 'always' or redis.call('HEXISTS', KEYS[1], ARGV[place]) == 0 then
    put(ARGV[place], ARGV[place + 1])
  end
end
finish()
if ARGV[2] ~= '' then redis.call('PUBLISH', ARGV[2], '') end
return { number(now) }
