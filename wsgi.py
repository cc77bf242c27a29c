"""The service: `python wsgi.py`, or the application `wsgi:app` for any other WSGI server.

`gunicorn wsgi:app` reads gunicorn.conf.py beside this file, so that its workers share their counts.
"""

if __name__ == "__main__":
    from app.server.main import main

    main()
else:
    from app import create_app
    from app.telemetry.logs import escape_commands

    escape_commands()
    app = create_app()
