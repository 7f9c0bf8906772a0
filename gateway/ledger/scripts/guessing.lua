-- Guesses: reasons of whoever takes a call for never sent, by what the store says. Whoever settles it knows that it was.

local GUESSED = {cancelled = true, not_begun = true}
