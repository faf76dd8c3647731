"""Lightning modules that the engine can look into."""

from dal.modules.base import ActiveModule as ActiveModule
