-- Argo CD's health of a VLLMServer (vllm-operator.io), from its conditions.
-- Lua 5.1 without libraries beyond the base, as Argo CD runs it; `obj` is the live object.

local function health(status, message)
  return { status = status, message = message }
end

if obj.metadata.deletionTimestamp ~= nil then
  return health("Progressing", "the server is being deleted")
end

local status = obj.status
if status == nil or status.conditions == nil then
  return health("Progressing", "the operator has not looked at the server yet")
end

-- Conditions of an older generation say nothing about what was synced.
if status.observedGeneration == nil or status.observedGeneration < obj.metadata.generation then
  return health("Progressing", "the operator has not looked at the last change yet")
end

local conditions = {}
for _, condition in ipairs(status.conditions) do
  conditions[condition.type] = condition
end

local ready = conditions["Ready"]
local stalled = conditions["Stalled"]
if stalled ~= nil and stalled.status == "True" then
  return health("Degraded", (ready or stalled).message)
end

local progressing = conditions["Progressing"]
if progressing ~= nil and progressing.reason == "Paused" then
  return health("Suspended", progressing.message)
end

if ready == nil then
  return health("Progressing", "the operator has not looked at the server yet")
end
if ready.status == "True" and ready.reason == "ScaledToZero" then
  return health("Suspended", ready.message)
end
if ready.status == "True" then
  return health("Healthy", ready.message)
end
return health("Progressing", ready.message)
