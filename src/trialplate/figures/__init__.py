"""Pictures from what was written: each module draws one, from plain data to PNG bytes. matplotlib is imported when a picture is drawn."""
