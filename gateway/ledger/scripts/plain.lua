-- A plain hold is taken in place of no earlier one: what gives back goes by a script of its own.

local GIVES_BACK, give_back, write_given_back = false, nil, nil
local promised, read_promise = {windows = {}, picture = nil, turned = nil}, nil
