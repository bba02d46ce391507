-- Checks of egress are decisions too: candidate policies are asked about both.
DROP INDEX journal_decisions;
CREATE INDEX journal_decisions ON journal (place)
    WHERE kind IN ('action.decided', 'egress.checked');
