-- Where each word of a picture stands, and which field was read from it.

ALTER TABLE ocr_results ADD COLUMN words jsonb NOT NULL DEFAULT '[]';
COMMENT ON COLUMN ocr_results.words IS
    'The words of the picture in reading order, at most a thousand: text, the box in the picture''s pixels (left, top, width, height), confidence from 0 to 100, and the field that was read from the word, if one was.';
