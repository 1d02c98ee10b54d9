-- A receiver may ask for an event once more while that event is on its way to it.

ALTER TABLE webhook_deliveries ADD COLUMN asked integer NOT NULL DEFAULT 0;
COMMENT ON COLUMN webhook_deliveries.asked IS
    'How often it was asked for again. An attempt that began before the last of these settles nothing: what was asked for then is still to come.';
